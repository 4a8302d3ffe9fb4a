"""What the history keeps of a step that went live, next to its columns. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qmigrate.model.facts.comparison import Compared
from qmigrate.model.facts.phases import Left, LeftOut, Searched, WritesSince
from qmigrate.model.facts.stored import UNLEARNED, Unlearned
from qmigrate.model.report import SweepReport, VerificationReport
from qmigrate.model.schema import JsonObject


@dataclass(frozen=True, slots=True)
class Measured:
    """Points and seconds of the phases of a build.

    Attributes:
        points: that were copied in `fill` seconds.
        total: points that were proven in `prove` and indexed in `index` seconds.
        embeds: how many vectors were embedded.
        width: bytes of a point as it is declared.
        weight: the same by a sample; None where none was taken.
        models: which embedders, as :func:`qmigrate.embed.options.speed_key` names them, sorted; empty of runs of
            earlier versions.
    """

    points: int
    fill: float
    total: int
    prove: float
    index: float
    embeds: int
    width: int
    weight: int | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyBefore:
    """The snapshot or the archive that a rebuild has left.

    Attributes:
        size: in bytes.
        checksum: of a snapshot, as the server has it.
        collection: of a snapshot, its physical name.
        made: of a snapshot, whether the run has made it; earlier versions didn't say, and had.
        place: of an archive, the path of the file.
        digest: of an archive.
        points: of an archive.
    """

    name: str
    size: int = 0
    checksum: str | Unlearned | None = UNLEARNED
    collection: str | Unlearned = UNLEARNED
    made: bool | Unlearned = UNLEARNED
    place: str | Unlearned = UNLEARNED
    digest: str | Unlearned = UNLEARNED
    points: int | Unlearned = UNLEARNED


@dataclass(frozen=True, slots=True)
class Reported:
    """What is read again of the report of any step.

    Attributes:
        snapshot: what was kept before; None where nothing was.
        barrier_delta: how far one barrier moves operation ids.
        speed: of the build; None where nothing was copied.
        closing: operation ids of the new generation, if nothing at all was written to it since the proof.
    """

    snapshot: CopyBefore | None = None
    barrier_delta: int | None = None
    speed: Measured | None = None
    closing: Left | Unlearned | None = UNLEARNED


@dataclass(frozen=True, slots=True)
class WentLive(Reported):
    """The whole report of a go-live.

    Attributes:
        verification: the proof.
        dropped: what was left out.
        quality: one measurement per gate.
        compared: old and new search, where that was asked for.
        stages: how busy each stage of the fill was, 0 to 1.
        sweep: what came late.
        swap: as the journal has it.
        writes_since: of a way back.
        deleted_again: points that fixes had deleted, and that were deleted here too.
    """

    verification: VerificationReport | None = None
    dropped: LeftOut | None = None
    quality: tuple[Searched, ...] | None = None
    compared: tuple[Compared, ...] | None = None
    stages: Mapping[str, float] | None = None
    sweep: SweepReport | None = None
    swap: JsonObject | None = None
    writes_since: WritesSince | None = None
    deleted_again: int = 0
