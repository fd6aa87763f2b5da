"""The style sheet that all pages have in common.

Invariant: it names no other file and no web address, and every colour is a
variable that has a light and a dark value. The colours of series are those of
Okabe and Ito (2008), which people with any colour vision tell apart, darkened
or lightened for the ground they stand on.
"""

from __future__ import annotations

_LIGHT = """
  color-scheme: light;
  --page: #f7f7f4; --card: #ffffff; --ink: #1d2329; --quiet: #5c6670;
  --line: #dfe1dc; --head: #f0f0ec; --shared: #2f6f9f;
  --tint: #dcebf5; --note: #fdf4dd; --noteline: #e2c472; --grid: #ecedea;
  --series0: #1f6aa5; --series1: #c2571a; --series2: #16876a;
  --series3: #a8578f; --series4: #b9841a; --series5: #4a9fd0;
  --series6: #75695c; --series-kept: #7badd0; --series-none: #a9b1b8;
  --series-bad: #c2571a; --branch: #5f7487; --faint: #d3d8d8;
  --accent: #b0257f; --ofroot: #e1eaf1; --several: #92bfe0; --alone: #f1c98c;
"""
_DARK = """
  color-scheme: dark;
  --page: #14181c; --card: #1c2126; --ink: #e4e7ea; --quiet: #9aa5b0;
  --line: #323a42; --head: #242a31; --shared: #62a5d6;
  --tint: #22394b; --note: #332c1a; --noteline: #6b5a2a; --grid: #283038;
  --series0: #6db4e6; --series1: #ee9560; --series2: #4fc7a2;
  --series3: #d995c6; --series4: #e5bb58; --series5: #a5d8f3;
  --series6: #b9ad9e; --series-kept: #3f789f; --series-none: #5d6871;
  --series-bad: #ee9560; --branch: #8398aa; --faint: #3a444d;
  --accent: #f58fd0; --ofroot: #2a3540; --several: #2f6890; --alone: #85601f;
"""
CSS = f"""
:root, :root[data-theme="light"] {{{_LIGHT}}}
@media (prefers-color-scheme: dark) {{
  :root:not([data-theme="light"]) {{{_DARK}}}
}}
:root[data-theme="dark"] {{{_DARK}}}
"""
CSS += """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; }
h1, p, summary, td, li { overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .4rem; }
p { margin: .3rem 0 .7rem; max-width: 46rem; }
.where, .quiet { color: var(--quiet); }
.quiet { font-size: .9rem; }
.note {
  background: var(--note); border: 1px solid var(--noteline);
  border-radius: .5rem; padding: .5rem .8rem; max-width: none;
}
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: .6rem; margin: 1.2rem 0;
}
figure { margin: .8rem 0; }
figure img {
  display: block; max-width: 100%; height: auto; image-rendering: pixelated;
}
figcaption { color: var(--quiet); font-size: .9rem; }
.facts div, .wide, details {
  background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem;
}
.facts div { padding: .6rem .8rem; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; line-height: 1.3; }
dd small { display: block; color: var(--quiet); font-size: .8rem; }
.wide { overflow-x: auto; }
table {
  border-collapse: collapse; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums;
}
th, td {
  padding: .4rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line);
}
tbody tr:last-child > *, tfoot tr:last-child > * { border-bottom: 0; }
tfoot tr:first-child > * { border-top: 2px solid var(--line); }
tfoot th, tfoot td { font-weight: 600; }
thead th { background: var(--head); font-weight: 600; vertical-align: bottom; }
th:first-child, .text { text-align: left; }
tbody th:first-child { font-weight: 500; }
th:first-child {
  position: sticky; left: 0; background: var(--card); white-space: normal;
  min-width: 8rem;
}
th > div { max-width: 20rem; overflow-wrap: break-word; }
thead th:first-child { background: var(--head); }
.tag {
  border: 1px solid var(--line); border-radius: .6rem; padding: 0 .4rem;
  color: var(--quiet); font-size: .8rem; font-weight: 400; white-space: nowrap;
}
.bar {
  display: flex; height: .8rem; min-width: 9rem; background: var(--head);
  border-radius: .2rem; overflow: hidden;
}
.bar i { display: block; flex: none; }
.thin { height: .3rem; min-width: 3.5rem; margin-top: .15rem; }
.shared { background: var(--shared); }
.key {
  display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  margin-right: .3rem; vertical-align: -.08rem;
}
details { margin-top: .6rem; }
summary { cursor: pointer; padding: .5rem .8rem; font-weight: 600; }
details > .wide { border-width: 1px 0 0; border-radius: 0 0 .5rem .5rem; }
details td { white-space: normal; }
details td, details th { text-align: left; }
details th > div { max-width: 16rem; }
@media (max-width: 30rem) {
  main { padding: 1rem .75rem 3rem; }
  th, td { padding: .35rem .5rem; }
  th:first-child { min-width: 7rem; }
  th > div { max-width: 9rem; }
}
"""
