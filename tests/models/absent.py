"""Stands in for packages that only run on a GPU, so that modules that import them can be imported."""

import importlib.abc
import importlib.machinery
import sys
import types

PACKAGES = ("cutlass", "flashinfer", "quack")


class Nothing:
    """Whatever is asked of it: itself; as a decorator, what it decorates; as a base class, object."""

    def __call__(self, *arguments, **named):
        return arguments[0] if len(arguments) == 1 and not named and callable(arguments[0]) else self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key):
        return self

    def __or__(self, other):
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases):
        return (object,)


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of the absent packages."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PACKAGES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: Nothing() if not name.startswith("__") else missing(name)
        return module

    def exec_module(self, module):
        module.__version__ = "0"


def missing(name):
    raise AttributeError(name)


sys.meta_path.append(Absent())
