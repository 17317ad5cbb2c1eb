"""Code of a model as glue: it calls your functions, in Monty and, with a key, at E2B.

python examples/sandboxes.py
"""

from __future__ import annotations

import asyncio
import os

import corral
from corral.sandbox.backends.e2b.backend import E2BBackend
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.backends.monty import MontyBackend

STOCK = {"apples": 12, "pears": 0, "plums": 7}

WRITTEN_BY_A_MODEL = """
import asyncio
names = ["apples", "pears", "plums"]
counts = await asyncio.gather(*[in_stock(name) for name in names])
print(", ".join(f"{name}: {count}" for name, count in zip(names, counts) if count))
"""


async def in_stock(name: str) -> int:
    """The one thing out here that the code can reach."""
    return STOCK.get(name, 0)


async def in_monty() -> None:
    async with corral.open_sandbox(MontyBackend({"in_stock": in_stock})) as sandbox:
        done = await sandbox.run_code(WRITTEN_BY_A_MODEL)
        print(f"monty: {done.stdout.strip()}")
        refused = await sandbox.run_code("open('/etc/passwd')")
        print(f"monty: {(refused.error or '').splitlines()[-1]}")
        late = await sandbox.run_code("2 ** (10**9)", seconds=0.5)
        print(f"monty: {late.status}")


async def at_e2b(key: str) -> None:
    options = E2BOptions(
        api_key=key,
        api_url=os.environ.get("E2B_API_URL"),
        sandbox_url=os.environ.get("E2B_SANDBOX_URL"),
    )
    async with corral.open_sandbox(E2BBackend(options)) as sandbox:
        session = await sandbox.session()
        await session.run("total = sum(range(10))")
        print(f"e2b: {(await session.run('total')).value}")


async def main() -> None:
    await in_monty()
    if key := os.environ.get("E2B_API_KEY"):
        await at_e2b(key)
    else:
        print("e2b: set E2B_API_KEY to run code there as well")


if __name__ == "__main__":
    asyncio.run(main())
