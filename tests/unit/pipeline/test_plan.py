from ci_registry.builders.interface import CacheReferences
from tests.support.pipeline import make_plan


def test_a_command_that_writes_nothing_reads_the_cache_and_writes_none() -> None:
    cache = CacheReferences(imports=("r/app/cache:main",), export="r/app/cache:main")
    plan = make_plan(cache=cache, sign=True)

    silent = plan.without_writes("`build` writes to no registry")

    assert plan.writes
    assert (silent.push, silent.sign, silent.writes) == (False, False, ())
    assert silent.cache == CacheReferences(imports=("r/app/cache:main",))
    assert silent.push_reason == "`build` writes to no registry"
