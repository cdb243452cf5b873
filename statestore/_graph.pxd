cimport cython
from statestore._nodes cimport Input, Origin


cdef class Graph:
    cdef public object _version
    cdef public dict fused, inputs, nodes
    @cython.locals(origin=Origin)
    cpdef list plan(self, Input source)
