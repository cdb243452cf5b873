"""Keys and families: what a declaration in the body of a store turns into."""

from __future__ import annotations

import attrs
import pytest

from statestore import (
    DuplicateKeyError,
    Family,
    Key,
    Members,
    MutableValueError,
    StateStoreError,
    Store,
    StoreClosedError,
    UnknownKeyError,
    ValueWatcher,
)


@attrs.frozen
class Config:
    """A frozen value, which may hold a mutable one."""

    host: str = "localhost"
    tags: object = ()


class App(Store):
    """A store of the kind that programs declare."""

    conn = Key("disconnected")
    inflight = Key(0)
    config = Key[Config | None](None)


class Shop(App):
    """A store with families as well."""

    workers = Family[str, int](default=0)
    carts = Family[int, Config]()


def test_class_access_gives_the_key() -> None:
    """On the class, the attribute is the Key with its name and default."""
    key = App.inflight

    assert isinstance(key, Key)
    assert ("inflight", 0) == (key.name, key.default)


def test_instance_access_gives_the_watcher() -> None:
    """On an instance, the attribute is the key's value watcher, with the default as its value."""
    watcher = App().conn

    assert isinstance(watcher, ValueWatcher)
    assert ("conn", "disconnected", 0) == (watcher.name, watcher.value, watcher.revision)


def test_attribute_key_and_name_give_the_same_watcher() -> None:
    """`app.conn`, `app[App.conn]`, `app["conn"]` and `app.get("conn")` are one object."""
    app = App()

    assert app.conn is app[App.conn]
    assert app.conn is app["conn"]
    assert app.conn is app.get(App.conn)
    assert app.conn is app.get("conn")
    assert app.conn is app.conn


def test_two_instances_share_no_value() -> None:
    """Each instance has a watcher and a revision of its own."""
    one, other = App(), App()

    one.inflight.value = 1

    assert (1, 0) == (one.inflight.value, other.inflight.value)
    assert (1, 0) == (one.revision, other.revision)
    assert one.inflight is not other.inflight


def test_two_stores_share_no_key() -> None:
    """A key of another store is not a key of this one, not even under the same name."""

    class Other(Store):
        conn = Key("disconnected")

    app = App()

    assert Other.conn not in app
    assert app.get(Other.conn) is None
    with pytest.raises(UnknownKeyError, match=r"'conn'.*another store than App"):
        app[Other.conn]


def test_a_mutable_default_is_refused_at_the_declaration() -> None:
    """A default that can be changed in place raises at once, and the error names the path to it."""
    with pytest.raises(MutableValueError, match=r"default\.tags: list") as caught:
        Key(Config(tags=[1]))
    assert "default.tags" == caught.value.path


def test_a_subclass_inherits_the_keys() -> None:
    """A subclass has the keys of its base before its own, and the base has no new ones."""

    class More(App):
        extra = Key(1)

    assert ["conn", "inflight", "config", "extra"] == list(More())
    assert ["conn", "inflight", "config"] == list(App())
    assert More.conn is App.conn
    assert "disconnected" == More().conn.value


def test_a_subclass_overrides_a_key_in_its_place() -> None:
    """A key declared anew has the new default, in the place of the old one; the base keeps its."""

    class Busy(App):
        inflight = Key(7)

    busy = Busy()

    assert ["conn", "inflight", "config"] == list(busy)
    assert 7 == busy.inflight.value
    assert 0 == App().inflight.value
    assert busy.inflight is busy[Busy.inflight]


def test_the_key_of_the_base_stands_for_the_one_that_overrides_it() -> None:
    """Code written for the base class works on a subclass that overrides a key."""

    class Busy(App):
        inflight = Key(7)

    busy = Busy()

    with busy.transaction() as tx:
        tx[App.inflight] += 1

    assert App.inflight in busy
    assert busy.inflight is busy[App.inflight]
    assert 8 == busy.inflight.value


def test_the_overriding_key_is_unknown_to_the_base() -> None:
    """A key of the subclass is not one of the base's instances."""

    class Busy(App):
        inflight = Key(7)

    assert Busy.inflight not in App()


def test_keys_of_all_bases_come_together() -> None:
    """A store with several bases has the keys of each, also those of a base that is no store."""

    class Left(Store):
        left = Key(1)

    class Right(Store):
        right = Key(2)

    class Mixin:
        mixed = Key(3)

    class Both(Left, Right, Mixin):
        own = Key(4)

    both = Both()

    assert {"left": 1, "right": 2, "mixed": 3, "own": 4} == {n: both[n].value for n in both}
    assert both.right is both[Both.right]


def test_of_two_bases_the_first_one_decides() -> None:
    """Of two keys of one name the one that Python's method resolution finds is in force."""

    class Left(Store):
        n = Key(1)

    class Right(Store):
        n = Key(2)

    class Both(Left, Right):
        pass

    assert Left.n is Both.n
    assert 1 == Both().n.value


def test_one_key_object_under_two_names_is_refused() -> None:
    """A Key can be declared once; a second name for it is an error that names both."""
    with pytest.raises(DuplicateKeyError, match=r"Twice\.second is the key 'first' once more"):

        class Twice(Store):
            first = Key(1)
            second = first


@pytest.mark.parametrize("name", ["close", "add", "transact", "__len__", "_resolve", "_core"])
def test_a_key_named_like_a_part_of_the_store_is_refused(name: str) -> None:
    """A key may not bear the name of a Store method, nor of what a store needs inside."""
    with pytest.raises(DuplicateKeyError, match=rf"Bad\.{name}.*may not bear.*choose another"):
        type("Bad", (Store,), {name: Key(1)})


def test_assigning_a_key_is_refused_with_the_fix() -> None:
    """`app.conn = x` raises and says to set the value; the watcher stays."""
    app = App()
    watcher = app.conn

    with pytest.raises(AttributeError, match=r"'conn' is a key: set App\.conn\.value instead"):
        app.conn = "connected"

    assert watcher is app.conn
    assert "disconnected" == watcher.value


def test_assigning_a_key_that_was_added_is_refused_with_the_fix() -> None:
    """The fix for a key added at run time is to go by its name."""
    store = Store()
    store.add("port", 1)

    with pytest.raises(AttributeError, match=r"set Store\['port'\]\.value instead"):
        store.port = 2

    assert 1 == store["port"].value


def test_deleting_a_key_is_refused() -> None:
    """`del app.conn` raises, and the watcher stays."""
    app = App()

    with pytest.raises(AttributeError, match="'conn' is a key of App, which cannot be deleted"):
        del app.conn

    assert "disconnected" == app.conn.value


def test_assigning_to_a_misspelt_key_is_refused() -> None:
    """`app.inflght = 1` raises and names the nearest key, instead of making an attribute."""
    app = App()

    with pytest.raises(AttributeError, match=r"no 'inflght'; did you mean inflight\.value\?"):
        app.inflght = 1
    with pytest.raises(AttributeError):
        app.inflght


def test_reading_a_misspelt_key_names_the_nearest() -> None:
    """`app.cnfig` raises AttributeError with the nearest key."""
    with pytest.raises(AttributeError, match="App has no attribute 'cnfig'; did you mean 'config'"):
        App().cnfig


def test_reading_an_unheard_of_attribute_suggests_nothing() -> None:
    """An attribute that resembles no key raises without a guess."""
    with pytest.raises(AttributeError) as caught:
        App().zzzzzz
    assert "App has no attribute 'zzzzzz'" == str(caught.value)


def test_a_key_that_was_added_is_no_attribute() -> None:
    """The error for `store.port` says how to reach a key that was added at run time."""
    store = Store()
    store.add("port", 1)

    with pytest.raises(AttributeError, match=r"added at run time: use store\['port'\]"):
        store.port


def test_an_unknown_name_names_the_nearest() -> None:
    """`app["cnn"]` raises UnknownKeyError with the nearest key."""
    with pytest.raises(UnknownKeyError, match="no key 'cnn'; did you mean 'conn'") as caught:
        App()["cnn"]
    assert isinstance(caught.value, KeyError)


def test_an_unknown_name_without_a_near_one_suggests_nothing() -> None:
    """A name that resembles no key raises without a guess."""
    with pytest.raises(UnknownKeyError) as caught:
        App()["zzzzzz"]
    assert "App has no key 'zzzzzz'" == str(caught.value)


@pytest.mark.parametrize("key", [1, True, 1.0, None, ("conn",), b"conn"])
def test_what_is_neither_key_nor_name_is_refused(key: object) -> None:
    """P085: only a Key, a watcher or a str stands for a key, so `1` and `True` cannot mix."""
    app = App()

    assert key not in app
    with pytest.raises(TypeError, match="is a Key, a watcher or a name"):
        app[key]


def test_the_watcher_of_another_store_is_refused() -> None:
    """A watcher stands for a key only in the store that it belongs to."""
    app, other = App(), App()

    with pytest.raises(UnknownKeyError, match="another store"):
        app.subscribe(other.conn)


def test_the_repr_of_a_key_tells_name_and_default() -> None:
    """A key shows its name and its default; one that no store has says so."""
    assert "<Key 'inflight', default 0>" == repr(App.inflight)
    assert "<Key '(not in a store)', default 1>" == repr(Key(1))


def test_a_key_has_no_other_attributes() -> None:
    """A misspelt attribute of a key raises."""
    with pytest.raises(AttributeError):
        App.conn.defualt = 1


def test_a_key_cannot_be_closed_by_itself() -> None:
    """The watcher of a key refuses `close()` and says to close the store."""
    app = App()

    with pytest.raises(StateStoreError, match="'conn' is a key of App; close the store"):
        app.conn.close()

    app.conn.value = "connected"


def test_no_key_is_set_after_the_store_was_closed() -> None:
    """Every way to set a key raises StoreClosedError, and none changes a value."""
    app = App()
    app.close()

    for change in (
        lambda: setattr(app.inflight, "value", 1),
        lambda: app.inflight.set(1),
        lambda: app.inflight.set_if(1, lambda _: True),
        lambda: app.inflight.compare_and_set(0, 1),
        lambda: app.inflight.update(lambda n: n + 1),
    ):
        with pytest.raises(StoreClosedError, match="App is closed"):
            change()

    assert (0, 0) == (app.inflight.value, app.revision)


class TestFamily:
    """A family, declared as a key is."""

    def test_is_given_by_the_class(self) -> None:
        """On the class, the attribute is the Family with its name and default."""
        family = Shop.workers

        assert isinstance(family, Family)
        assert ("workers", 0) == (family.name, family.default)

    def test_turns_into_members(self) -> None:
        """On an instance, the attribute is the family's members, of which there are none yet."""
        shop = Shop()

        assert isinstance(shop.workers, Members)
        assert ("workers", []) == (shop.workers.name, list(shop.workers))
        assert shop.workers is shop.workers

    def test_is_not_shared_by_two_instances(self) -> None:
        """Each instance has members of its own."""
        one, other = Shop(), Shop()

        one.workers.add("w1", 5)

        assert ([5], []) == (list(one.workers.mapping.value.values()), list(other.workers))
        assert (1, 0) == (one.revision, other.revision)

    def test_refuses_a_mutable_default(self) -> None:
        """A default that can be changed in place raises at the declaration, with the path to it."""
        with pytest.raises(MutableValueError, match=r"default\.tags: list") as caught:
            Family(default=Config(tags=[1]))
        assert "default.tags" == caught.value.path

    def test_may_have_none_as_the_default(self) -> None:
        """None is a default as any other; a family without one has no attribute to mistake."""

        class Nothing(Store):
            things = Family[str, None](default=None)

        assert Nothing().things.add("a").value is None

    def test_is_no_key(self) -> None:
        """Families are not among the keys of the store, under their name or as the declaration."""
        shop = Shop()
        shop.workers.add("w1")

        assert ["conn", "inflight", "config"] == list(shop)
        assert 3 == len(shop)
        assert ("workers" in shop, Shop.workers in shop, shop.workers in shop) == (False,) * 3
        assert shop.get("workers") is None
        for other in (Shop.workers, shop.workers):
            with pytest.raises(TypeError, match="is a Key, a watcher or a name, not"):
                shop[other]
            with pytest.raises(TypeError, match="is a Key, a watcher or a name, not"):
                shop.subscribe(other)

    def test_is_named_to_who_takes_it_for_a_key(self) -> None:
        """`app["workers"]` says that it is a family, and how to reach it."""
        with pytest.raises(UnknownKeyError, match=r"'workers'; it is a family: use Shop\.workers"):
            Shop()["workers"]

    def test_is_inherited(self) -> None:
        """A subclass has the families of its base, and the base has no new ones."""

        class More(Shop):
            orders = Family[int, int]()

        assert Shop.workers is More.workers
        assert {"workers", "carts", "orders"} <= set(More().snapshot())
        assert not hasattr(Shop(), "orders")

    def test_may_be_declared_anew_by_a_subclass(self) -> None:
        """The new default is in force in the subclass, and the base keeps its own."""

        class Busy(Shop):
            workers = Family[str, int](default=7)

        busy, shop = Busy(), Shop()

        assert (7, 0) == (busy.workers.add("w1").value, shop.workers.add("w1").value)
        assert 1 == list(busy.snapshot()).count("workers")
        with busy.transaction() as tx:
            tx.add(busy.workers, "w2")
        assert 7 == busy.workers["w2"].value

    def test_is_taken_from_the_base_that_python_finds(self) -> None:
        """Of two bases the first one decides, and what is declared by no store counts too."""

        class Left(Store):
            n = Family[str, int](default=1)

        class Right(Store):
            n = Family[str, int](default=2)

        class Mixin:
            mixed = Family[str, int](default=3)

        class Both(Left, Right, Mixin):
            pass

        both = Both()

        assert (1, 3) == (both.n.add("a").value, both.mixed.add("a").value)

    @pytest.mark.parametrize(
        "declarations",
        [(Key(0), Family[str, int]()), (Family[str, int](), Key(0))],
        ids=["key first", "family first"],
    )
    def test_does_not_change_places_with_a_key(self, declarations: tuple[object, object]) -> None:
        """What is a key in a base class cannot be a family in a subclass, nor the other way."""
        first, second = declarations
        base = type("Base", (Store,), {"thing": first})

        with pytest.raises(DuplicateKeyError, match=r"Sub\.thing is a .* in a base class; choose"):
            type("Sub", (base,), {"thing": second})

    def test_cannot_have_two_names(self) -> None:
        """A Family can be declared once; a second name for it is an error that names both."""
        with pytest.raises(DuplicateKeyError, match=r"Twice\.b is the key .a. once more; .*Fam"):

            class Twice(Store):
                a = Family[str, int]()
                b = a

    @pytest.mark.parametrize("name", ["close", "add", "transact", "__len__", "_resolve", "_core"])
    def test_cannot_be_named_like_a_part_of_the_store(self, name: str) -> None:
        """A family may not bear the name of a Store method, nor of what a store needs inside."""
        with pytest.raises(DuplicateKeyError, match=rf"Bad\.{name}.*may not bear.*choose another"):
            type("Bad", (Store,), {name: Family()})

    def test_leaves_its_name_to_no_key(self) -> None:
        """A key that is added at run time cannot bear the name of a family."""
        shop = Shop()

        with pytest.raises(DuplicateKeyError, match="Shop has 'workers' already"):
            shop.add("workers", 1)

        assert (0, 0) == (shop.revision, len(shop.workers))

    def test_cannot_be_assigned(self) -> None:
        """`app.workers = x` raises and says what to do instead; the members stay."""
        shop = Shop()
        shop.workers.add("w1")
        members = shop.workers

        with pytest.raises(AttributeError, match=r"'workers' is a family: use Shop\.workers\.a"):
            shop.workers = {}

        assert (members, ["w1"]) == (shop.workers, list(shop.workers))

    def test_cannot_be_deleted(self) -> None:
        """`del app.workers` raises and says to delete members."""
        shop = Shop()
        shop.workers.add("w1")

        with pytest.raises(AttributeError, match="'workers' is a family of Shop; delete its memb"):
            del shop.workers

        assert ["w1"] == list(shop.workers)

    def test_is_named_to_who_misspells_it(self) -> None:
        """`app.wrkers` and `app.wrkers = x` raise and name the nearest family."""
        shop = Shop()

        with pytest.raises(AttributeError, match="no attribute 'wrkers'; did you mean 'workers'"):
            shop.wrkers
        with pytest.raises(AttributeError, match=r"no 'wrkers'; did you mean workers\[\.\.\.\]\?"):
            shop.wrkers = 1
        with pytest.raises(AttributeError) as caught:
            shop.zzzzzz
        assert "Shop has no attribute 'zzzzzz'" == str(caught.value)

    def test_shows_its_name(self) -> None:
        """The repr of a family tells its name; one that no store has says so."""
        assert "<Family 'workers'>" == repr(Shop.workers)
        assert "<Family '(not in a store)'>" == repr(Family())

    def test_has_no_other_attributes(self) -> None:
        """A misspelt attribute of a family raises, as does one that only its members have."""
        with pytest.raises(AttributeError):
            Shop.workers.defualt = 1
        with pytest.raises(AttributeError):
            Shop.workers.add("w1")

    def test_is_part_of_each_snapshot(self) -> None:
        """A snapshot has the members of each family under its name, in a map of its own."""
        shop = Shop()
        shop.workers.add("w1", 5)

        found = shop.snapshot()
        shop.workers["w1"].value = 6

        assert {"w1": 5} == dict(found["workers"])
        assert ({"w1": 5}, {}) == (dict(found.workers), dict(found.carts))
        assert 5 == len(found)
