cimport cython
from statestore._core cimport Core, Slot
from statestore._graph cimport Graph
from statestore._nodes cimport Input, Node


cdef class Outlet(Slot):
    cdef object __weakref__
    cdef public Network _network
    cdef public list _holds
    cdef public object _reference
    cpdef tell(self)


cdef class Network:
    cdef object __weakref__
    cdef public Core core
    cdef public Graph _graph
    cdef public bint _is_broken
    cdef public dict _fed, _listened, dirty
    cdef public list _dropped, _right
    cdef public object revision
    cpdef mark(self, Input source)
    cpdef bint advance(self, share=*)
    cpdef _wake(self)
    cpdef _tell_all(self)
    cpdef _advance(self, revision, share=*)
    cpdef _put_in_order(self)
    @cython.locals(inputs=list, marked=dict)
    cpdef _walk(self, revision, share=*)
    @cython.locals(inputs=list, source=Input)
    cpdef list _arm(self, marked)
    @cython.locals(cell=list, source=Input, steps=list)
    cpdef list _steps(self, inputs, revision)
    @cython.locals(cell=list, left=Py_ssize_t)
    cpdef _follow_one(self, Input source, revision, share)
    @cython.locals(plan=list, source=Input, cell=list)
    cpdef _follow(self, steps)
    @cython.locals(node=Node, dependent=Node, outlet=Outlet, places=tuple)
    cpdef _compute(self, list plan)


@cython.locals(after=list, cell=list, source=Input)
cpdef _within(share, inputs, revision)
