"""What the API reference documents, and what its docstrings must say.

Invariant: every public module, class, function, method and property of the
package is documented and annotated, or the documentation does not build.
"""

from __future__ import annotations

import ast
import pathlib
import textwrap
from collections.abc import Iterator

import griffe

PACKAGE = "keras_munet"


def load(search_path: str | pathlib.Path, name: str = PACKAGE) -> griffe.Module:
    """Returns a package as its source says, without importing it."""
    loaded = griffe.load(
        name, search_paths=[str(search_path)], docstring_parser="google"
    )
    assert isinstance(loaded, griffe.Module)
    return loaded


def public(found: griffe.Module | griffe.Class) -> Iterator[griffe.Object]:
    """Yields what is public below a module or class, itself left out."""
    for member in found.members.values():
        if member.is_alias or member.name.startswith("_"):
            continue
        yield member
        if isinstance(member, (griffe.Module, griffe.Class)):
            yield from public(member)


def packages(package: griffe.Module) -> dict[str, list[str]]:
    """Returns the modules of each package, by its path; the top one first.

    Modules that stand alone belong to the package above.
    """
    found: dict[str, list[str]] = {package.path: [package.path]}
    for module in package.modules.values():
        if module.name.startswith("_"):
            continue
        if module.is_package or module.is_subpackage:
            inner = [m for m in public(module) if m.is_module]
            found[module.path] = [module.path, *sorted(m.path for m in inner)]
        else:
            found[package.path].append(module.path)
    return found


def problems(package: griffe.Module) -> list[str]:
    """Returns what is missing from the docstrings, one line each."""
    return [
        f"{one.path}: {problem}"
        for one in public(package)
        for problem in _problems(one)
    ]


def _problems(one: griffe.Object) -> Iterator[str]:
    if isinstance(one, griffe.Attribute) and "property" not in one.labels:
        return
    if not one.docstring:
        yield "has no docstring"
        return
    if isinstance(one, griffe.Function):
        yield from _problems_of_function(one)
    elif isinstance(one, griffe.Class):
        listed = {n for c in _family(one) for n in _listed(c, "attributes")}
        for name, attribute in one.attributes.items():
            # What a dataclass has for each instance; a ClassVar it has not.
            field = attribute.annotation and "instance-attribute" in (
                attribute.labels
            )
            public_field = field and not name.startswith("_")
            if _is_dataclass(one) and public_field and name not in listed:
                yield f"does not say what its attribute {name} is"


def _problems_of_function(one: griffe.Function) -> Iterator[str]:
    # Of a function with a gradient, callers get the first of what it returns.
    custom = any("custom_gradient" in str(d.value) for d in one.decorators)
    if one.returns is None and not custom:
        yield "does not say what it returns"
    known = [p for p in one.parameters if p.name not in ("self", "cls")]
    listed = _listed(one, "parameters")
    for parameter in known:
        if parameter.annotation is None:
            yield f"has no type for {parameter.name}"
        if listed and parameter.name not in listed:
            yield f"does not say what {parameter.name} is"
    for name in sorted(listed - {p.name for p in known}):
        yield f"tells of {name}, which it does not take"
    told = [one.docstring.value] if one.docstring else []
    if isinstance(one.parent, griffe.Class):
        # What it overrides may say it.
        for base in _family(one.parent)[1:]:
            overridden = base.members.get(one.name)
            if overridden is not None and overridden.docstring:
                told.append(overridden.docstring.value)
    for name in sorted(_raised(one)):
        if not any(name in text for text in told):
            yield f"raises {name} and does not say so"


def _listed(one: griffe.Object, kind: str) -> set[str]:
    """Returns the names under `Args:` or `Attributes:`."""
    if not one.docstring:
        return set()
    return {
        item.name.lstrip("*")
        for section in one.docstring.parse("google")
        if section.kind.value == kind
        for item in section.value
    }


def _family(one: griffe.Class) -> list[griffe.Class]:
    """Returns a class and those of the package that it comes from."""
    bases = [b for b in one.resolved_bases if isinstance(b, griffe.Class)]
    return [one, *(found for base in bases for found in _family(base))]


def _is_dataclass(one: griffe.Class) -> bool:
    return any("dataclass" in str(d.value) for d in one.decorators)


def _raised(one: griffe.Function) -> set[str]:
    """Returns the names of the errors that a function's own body raises."""
    source = textwrap.dedent(one.source)
    body = ast.parse(source).body[0]
    found: set[str] = set()

    def look(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.Try):
                # What is raised inside is caught there.
                for part in (*child.handlers, *child.orelse, *child.finalbody):
                    look(part)
                continue
            if isinstance(child, ast.Raise) and child.exc is not None:
                raised = child.exc
                if isinstance(raised, ast.Call):
                    raised = raised.func
                name = ast.unparse(raised).split(".")[-1]
                # An abstract method's says that it is abstract.
                if name.endswith("Error") and name != "NotImplementedError":
                    found.add(name)
            look(child)

    look(body)
    return found


class Examples(griffe.Extension):
    """Has the section `Example:` shown as code; Griffe knows `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Renames the section in an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace(
                "\nExample:\n", "\nExamples:\n"
            )
