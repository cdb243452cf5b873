cimport cython
from statestore._core cimport Core, Listeners, Slot


cdef class Settable(Slot):
    @cython.locals(cell=list, after=list)
    cpdef _get(self)
    @cython.locals(
        core=Core, box=list, cell=list, after=list, listeners=Listeners, following=list, entry=tuple
    )
    cpdef _put(self, new)
