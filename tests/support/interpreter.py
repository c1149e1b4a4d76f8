"""Owns making Triton's interpreter quicker: at every call of every function of a kernel it searches the whole language
for what it replaces, which is half of the time that tests of kernels take."""

import inspect


def remember_the_language() -> None:
    """Search once; what is replaced, and when, stays the same. To be called before a kernel runs, and after the
    environment has said that kernels are interpreted. Does nothing where Triton is absent."""
    try:
        import triton.language as tl
        from triton.runtime import interpreter
    except ImportError:
        return

    def builtins_of(place: object) -> list[str]:
        return [name for name, member in inspect.getmembers(place) if tl.core.is_builtin(member)]

    places = (tl, tl.core, tl.math, tl.tensor, tl.core.tensor_descriptor_base)
    names = {place: builtins_of(place) for place in places}

    def patch(place: object, builder: object, scope: object) -> None:
        for name in names[place]:
            member = getattr(place, name)
            if tl.core.is_builtin(member):  # and not replaced already
                interpreter._patch_attr(place, name, member, builder, scope)

    numpy_types: dict[str, object] = {}
    look_up = interpreter._get_np_dtype  # builds a table of all of them

    def numpy_type(kind: tl.dtype) -> object:
        scalar = kind.element_ty if isinstance(kind, tl.block_type) else kind
        if isinstance(scalar, tl.pointer_type):
            return look_up(scalar)
        if scalar.name not in numpy_types:
            numpy_types[scalar.name] = look_up(scalar)
        return numpy_types[scalar.name]

    interpreter._patch_builtin = patch
    interpreter._get_np_dtype = numpy_type
