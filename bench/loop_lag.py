"""How long the event loop waits while pictures are converted beside it: four of 4 MP at once.

Run `python -m bench.loop_lag`. A timer due every millisecond tells its lateness; more than 20 ms would be felt by
every other request. The idle figures, taken just before, tell how busy the machine is with other things.
"""

from __future__ import annotations

import asyncio
import io
import time

from PIL import Image

from proxy.pixels import Pixels
from translators.base import Blob, blob

SIZE = (2048, 2048)
ROUNDS = 5


def photo(kind: str) -> Blob:
    """Soft colours under fine noise: about what a model paints."""
    soft = Image.merge("RGB", [Image.linear_gradient("L").rotate(turn).resize(SIZE) for turn in (0, 90, 45)])
    noise = Image.effect_noise(SIZE, 24).convert("RGB")
    out = io.BytesIO()
    Image.blend(soft, noise, 0.15).save(out, kind)
    return blob(out.getvalue())


async def lags(work: asyncio.Task[None]) -> list[float]:
    """The lateness of each tick until `work` is done, in milliseconds."""
    late = []
    while not work.done():
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - due) * 1000)
    return sorted(late)


async def main() -> None:
    pixels = Pixels()
    sources = {kind: photo(kind) for kind in ("PNG", "JPEG", "WEBP")}
    routes = (("PNG", "jpeg"), ("PNG", "webp"), ("JPEG", "png"), ("WEBP", "png"))

    async def convert() -> None:
        for _ in range(ROUNDS):
            await asyncio.gather(*(pixels.transcode(sources[source], to, 90) for source, to in routes))

    idle = await lags(asyncio.create_task(asyncio.sleep(3)))
    started = time.perf_counter()
    busy = await lags(asyncio.create_task(convert()))
    seconds = time.perf_counter() - started
    pixels.close()
    print(f"{ROUNDS * len(routes)} conversions of 4 MP in {seconds:.1f} s, {len(busy)} ticks; ms late, idle and busy")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)):
        print(
            f"{name:>6}" + "".join(f" {late[min(len(late) - 1, int(len(late) * share))]:8.2f}" for late in (idle, busy))
        )


if __name__ == "__main__":
    asyncio.run(main())
