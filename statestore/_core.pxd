cimport cython


cdef class Listeners:
    cdef public bint is_shared
    cdef public dict callbacks, family, groups, ports, rings
    cpdef notify(self)


cdef class Slot:
    cdef public list _cell
    cdef public Core _core
    cdef public Listeners _listeners
    cdef public object _member, _name
    @cython.locals(cell=list, after=list)
    cpdef _latest(self)
    @cython.locals(core=Core)
    cpdef _is_ended(self, share=*)
    cpdef _has_after(self, list cell)
    @cython.locals(cell=list, after=list)
    cpdef list _tail(self)


cdef class Group(Slot):
    pass


cdef class Core:
    cdef object __weakref__
    cdef public bint closed, strict
    cdef public dict attention, ends, lines, listeners, mailboxes, names, recordings, streams, turns
    cdef public object derived, epoch, everything, families, inline, time_of, title
    cdef public tuple head
    @cython.locals(entry=tuple, head=tuple, box=list)
    cpdef tuple settle(self)
    cpdef run_callbacks(self)
    @cython.locals(slot=Slot, before=list, after=list, listeners=Listeners, place=Py_ssize_t)
    cpdef apply(self, tuple entry)
    @cython.locals(links=list, calls=list, groups=dict, slot=Slot, before=list, listeners=Listeners)
    cpdef tuple entry(self, revision, changes, reason=*)
    @cython.locals(first=list, listeners=Listeners, group=Slot)
    cpdef tuple _entry(self, revision, list links, dict groups, list calls, reason)
