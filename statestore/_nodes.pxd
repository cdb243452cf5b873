cimport cython
from statestore._core cimport Slot


cdef class Origin:
    cdef public object revision, value
    cdef public dict dependents
    cdef public list audience


cdef class Input(Origin):
    cdef public Slot slot
    cdef public list cell, plan
    cdef public object _mark, _token, version
    cpdef notify(self)
    @cython.locals(ports=dict)
    cpdef arm(self)
    @cython.locals(node=Node, places=tuple)
    cpdef move_to(self, list cell)
    cpdef stand_at(self, list cell)


cdef class FeedInput(Input):
    cdef public object _hold


cdef class Node(Origin):
    cdef public bint is_compared, stale
    cdef public list sources
    cdef public object depth, formula, outlet
    cpdef touch(self, tuple places, before, after)
    cpdef compute(self)


cdef class MapNode(Node):
    cdef public list _functions, parts
    cdef public object _argument


cdef class CombineNode(Node):
    cdef public bint _has_failed
    cdef public list _values
    cdef public object _using


cdef class CountNode(Node):
    cdef public dict _failed
    cdef public Py_ssize_t _holding, _least


cdef class MembersNode(Node):
    cdef public object _looked_at


cdef class TallyNode(MembersNode):
    cdef public dict _failed
    cdef public object _test
    cdef public Py_ssize_t _number
    cdef public set holding


cdef class GatheredNode(MembersNode):
    cdef public object _values
