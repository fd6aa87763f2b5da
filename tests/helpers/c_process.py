"""Runs a signature by TensorFlow's C library alone, without its Python.

    python c_process.py LIBRARY FOLDER < REQUEST > ANSWER

The library's `TF_LoadSessionFromSavedModel` is how C++ programs, TensorFlow
Serving among them, load a SavedModel. REQUEST is JSON: `input` and `output`
(names of tensors), and `images` (nested lists) or `encoded` (base64).
ANSWER is JSON: `values` (a list), or `code` and `message`.
"""

from __future__ import annotations

import base64
import ctypes
import importlib.util
import json
import pathlib
import sys

import numpy as np

# TF_DataType.
_UINT8 = 4
_STRING = 7
_NUM_BYTES_STRING = 24
_POINTER = ctypes.c_void_p


class _Output(ctypes.Structure):
    _fields_ = [("operation", _POINTER), ("index", ctypes.c_int)]


def tensor_names(folder, signature):
    """Returns the names of a request's tensors, as `Library.run` takes them.

    For processes that have TensorFlow's Python beside its C library.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(
        pathlib.Path(folder, "saved_model.pb").read_bytes()
    )
    defined = saved.meta_graphs[0].signature_def[signature]
    (given,) = defined.inputs.values()
    return {"input": given.name, "output": defined.outputs["scores"].name}


def library_file():
    """Returns where the installed TensorFlow has its C library, if it does."""
    spec = importlib.util.find_spec("tensorflow")
    return pathlib.Path(spec.origin).parent / "libtensorflow_cc.so.2"


class Library:
    """The functions of the C library, each returning a pointer or number."""

    def __init__(self, path):
        self._library = ctypes.CDLL(str(path))
        self.status = self.call("TF_NewStatus")

    def call(self, name, *args, returns=_POINTER):
        function = getattr(self._library, name)
        function.restype = returns
        return function(*args)

    def check(self):
        code = self.call(
            "TF_GetCode", _POINTER(self.status), returns=ctypes.c_int
        )
        if code:
            message = self.call(
                "TF_Message", _POINTER(self.status), returns=ctypes.c_char_p
            )
            answer = {"code": code, "message": message.decode(errors="replace")}
            print(json.dumps(answer))
            sys.exit(0)

    def load(self, folder):
        """Returns a session of the SavedModel, and its graph."""
        graph = self.call("TF_NewGraph")
        session = self.call(
            "TF_LoadSessionFromSavedModel",
            _POINTER(self.call("TF_NewSessionOptions")),
            None,
            folder.encode(),
            (ctypes.c_char_p * 1)(b"serve"),
            1,
            _POINTER(graph),
            None,
            _POINTER(self.status),
        )
        self.check()
        return session, graph

    def tensor(self, request):
        if "images" in request:
            value = np.array(request["images"], np.uint8)
            made = self._allocated(_UINT8, value.shape, value.nbytes)
            ctypes.memmove(self._data(made), value.tobytes(), value.nbytes)
            return made
        strings = [base64.b64decode(text) for text in request["encoded"]]
        num_bytes = _NUM_BYTES_STRING * len(strings)
        made = self._allocated(_STRING, [len(strings)], num_bytes)
        for number, data in enumerate(strings):
            at = _POINTER(self._data(made) + _NUM_BYTES_STRING * number)
            self.call("TF_StringInit", at, returns=None)
            size = ctypes.c_size_t(len(data))
            self.call("TF_StringCopy", at, data, size, returns=None)
        return made

    def values(self, tensor):
        size = self.call(
            "TF_TensorByteSize", _POINTER(tensor), returns=ctypes.c_size_t
        )
        data = ctypes.string_at(self._data(tensor), size)
        return np.frombuffer(data, np.float32).tolist()

    def output(self, graph, name):
        operation, _, index = name.partition(":")
        found = self.call(
            "TF_GraphOperationByName", _POINTER(graph), operation.encode()
        )
        return _Output(found, int(index))

    def run(self, session, graph, request):
        """Returns the values of the output for the input of a request."""
        given = (_POINTER * 1)(self.tensor(request))
        answer = (_POINTER * 1)()
        self.call(
            "TF_SessionRun",
            _POINTER(session),
            None,
            (_Output * 1)(self.output(graph, request["input"])),
            given,
            1,
            (_Output * 1)(self.output(graph, request["output"])),
            answer,
            1,
            None,
            0,
            None,
            _POINTER(self.status),
            returns=None,
        )
        self.check()
        values = self.values(answer[0])
        for tensor in (given[0], answer[0]):
            self.call("TF_DeleteTensor", _POINTER(tensor), returns=None)
        return values

    def _allocated(self, kind, shape, num_bytes):
        dims = (ctypes.c_int64 * len(shape))(*shape)
        size = ctypes.c_size_t(num_bytes)
        return self.call("TF_AllocateTensor", kind, dims, len(shape), size)

    def _data(self, tensor):
        return self.call("TF_TensorData", _POINTER(tensor))


def main():
    library = Library(sys.argv[1])
    session, graph = library.load(sys.argv[2])
    values = library.run(session, graph, json.loads(sys.stdin.read()))
    assert "tensorflow" not in sys.modules
    print(json.dumps({"values": values}))


if __name__ == "__main__":
    main()
