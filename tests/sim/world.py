"""The whole gateway over simulated providers, a simulated store and simulated time: one run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from embedway.budgets import Budget
from embedway.cached import CacheEvent
from embedway.catalog_file import load_catalog
from embedway.errors import EmbedError
from embedway.gateway import Gateway, Kept, build_gateway
from embedway.ids import Ids
from embedway.secret import Secret
from embedway.settings import AccountSettings, ModelSettings, Settings
from embedway.store.recent import RecentVectors
from embedway.surroundings import Books
from embedway.types import Call, EmbedParams, EmbedRequest, Grant
from tests.memory_ledger import MemoryLedger
from tests.sim.laws import Laws
from tests.sim.leftovers import check_leftovers
from tests.sim.log import Log
from tests.sim.loop import STARTS_S, SimClock, SimLoop, Stuck
from tests.sim.plan import Caller, Plan, make_plan
from tests.sim.provider import SimProviders
from tests.sim.store import SimStore
from tests.sim.traffic import HEALED_S, OPERATOR

CATALOG = load_catalog()
_AGAIN = 10_000
"""Added to the number of a caller who asks for the same again."""
_QUIET_S = 1.0
"""After so much virtual time nothing that was ready is left."""


class Run(Struct, frozen=True):
    """What became of one seed."""

    seed: int
    log: Log

    @property
    def report(self) -> str:
        """What went wrong, and what happened last; empty if all is well."""
        if not self.log.broken:
            return ""
        broken = "\n  ".join(self.log.broken[:10])
        first = next(i for i, line in enumerate(self.log.lines) if "BROKEN" in line)
        tail = "\n  ".join(self.log.lines[max(0, first - 30) : first + 1])
        return (
            f"seed {self.seed}: {len(self.log.broken)} times against the law\n  {broken}\n"
            f"what happened before the first:\n  {tail}\n"
            f"again: scripts/simulate 1 --from {self.seed}"
        )


def run_seed(seed: int) -> Run:
    """One seed from beginning to end, in an event loop of its own."""
    log = Log()
    chance = Random(f"{seed} loop")
    with asyncio.Runner(loop_factory=lambda: SimLoop(chance)) as runner:
        try:
            runner.run(_World(make_plan(seed), log).live())
        except Stuck as stuck:
            log.lines.append(f"BROKEN {stuck}")
            log.broken.append(str(stuck))
    return Run(seed, log)


class _World:
    """A gateway and all around it."""

    def __init__(self, plan: Plan, log: Log) -> None:
        self.plan = plan
        self.log = log
        self.laws = Laws(log)
        self.clock = SimClock()
        self.providers = SimProviders(
            plan.accounts,
            Random(f"{plan.seed} providers"),
            self.laws,
            faults=plan.faults,
            fault_rate=plan.fault_rate,
        )
        self.store = SimStore(
            Random(f"{plan.seed} store"),
            self._count,
            fault_rate=plan.fault_rate,
            ttl_s=plan.ttl_s,
        )
        self.gateway = self._build()

    async def live(self) -> None:
        """First with faults, then without: what was broken must heal by itself."""
        plan, laws = self.plan, self.laws
        laws.must_succeed = plan.is_calm
        await self._all(plan.callers)
        laws.books.check_sums(is_exact=plan.is_calm)
        self.log.write("the faults stop")
        self.providers.fault_rate = self.store.fault_rate = 0.0
        await self.clock.sleep(HEALED_S)  # within that time every account is asked again
        laws.must_succeed = True
        await self._all(plan.later)
        await self.store.flush()
        calls = self.providers.calls
        await self._all(replace(one, number=one.number + _AGAIN, cache="use") for one in plan.later)
        self.log.expect(self.providers.calls == calls, "what is known is not asked again")
        laws.books.check_sums(is_exact=plan.is_calm)
        laws.books.check_attempts(self.ledger)
        self._check_retries()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.log.expect(not loop.complaints, "no exception goes unseen", loop.complaints)

    async def _all(self, callers: Iterable[Caller]) -> None:
        tasks = [asyncio.create_task(self._visit(caller)) for caller in callers]
        await asyncio.wait(tasks)
        await self.clock.sleep(_QUIET_S)
        check_leftovers(self.gateway, self.log)
        self.laws.traffic.rest()

    async def _visit(self, caller: Caller) -> None:
        await self.clock.sleep(caller.starts_s)
        task = asyncio.current_task()
        assert task is not None
        if caller.leaves_s is not None:
            asyncio.get_running_loop().call_later(caller.leaves_s, task.cancel)
        visit = self.laws.came(caller)
        try:
            response = await self.gateway(_request(caller, self.clock.monotonic()))
        except EmbedError as error:
            self.laws.failed(visit, error)
        except asyncio.CancelledError:
            self.laws.left(visit)
        except Exception as bug:
            self.laws.crashed(visit, bug)
        else:
            self.laws.answered(visit, response)

    def _build(self) -> Gateway:
        plan = self.plan
        self.ledger, ids = MemoryLedger(), Ids(self.clock, Random(f"{plan.seed} ids").randbytes)
        recent = RecentVectors(
            max_bytes=plan.memory_bytes, ttl_s=plan.ttl_s, clock=self.clock, count=self._count
        )
        return build_gateway(
            settings=_settings(plan),
            catalog=CATALOG,
            local=None,
            send=self.providers,
            book=self.laws.books,
            count=lambda line: None,
            clock=self.clock,
            chance=Random(f"{plan.seed} gateway").random,
            kept=Kept(recent, self.store if plan.has_store else None),
            count_retry=self._count_retry,
            count_cache=self._count,
            books=Books(self.ledger, _no_budgets, ids),
        )

    def _count_retry(self, is_granted: bool) -> None:
        self.log.met["retry: granted" if is_granted else "retry: refused"] += 1

    def _check_retries(self) -> None:
        """Each model has a budget of its own."""
        seconds = self.clock.monotonic() - STARTS_S + 10
        most = 0.1 * self.providers.calls + 3 * seconds * len(self.gateway.models)
        granted = self.log.met["retry: granted"]
        self.log.expect(granted <= most, "retries keep to their budget", granted, most)

    def _count(self, event: CacheEvent, number: int) -> None:
        self.log.met[f"cache: {event}"] += number


async def _no_budgets(grant: Grant) -> tuple[Budget, ...]:
    return ()


def _request(caller: Caller, now_s: float) -> EmbedRequest:
    own = {caller.kind.provider: Secret(caller.credential)} if caller.is_byok else {}
    return EmbedRequest(
        params=EmbedParams(
            model=caller.kind.model, dimensions=caller.dimensions, input_type=caller.input_type
        ),
        inputs=caller.inputs,
        call=Call(
            id=f"{caller.number:026d}",
            grant=Grant(key_id=f"k{caller.number % 3}", name="sim", project=caller.project),
            deadline=now_s + caller.time_s,
            cache=caller.cache,
            only=caller.only,
            order=caller.order,
            sort=caller.sort,
            user=caller.user,
            credentials=own,
        ),
    )


def _settings(plan: Plan) -> Settings:
    providers = {
        account.name: AccountSettings(
            kind=account.kind.provider,
            base_url=f"https://{account.name}.example/v1",
            api_key=Secret(OPERATOR),
            models={account.kind.model: account.kind.upstream},
            max_inputs=account.max_inputs,
            concurrency=account.concurrency,
        )
        for account in plan.accounts
    }
    models = {
        kind.model: ModelSettings(
            dimensions=kind.widths[0],
            matryoshka=kind.is_cut,
            price_usd_per_million_tokens=f"{kind.price / 10**6:f}",
        )
        for kind in dict.fromkeys(account.kind for account in plan.accounts)
        if CATALOG.find(kind.model) is None
    }
    return Settings(home="/nowhere", providers=providers, models=models)
