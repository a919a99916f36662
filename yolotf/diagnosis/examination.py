"""One file against one network: what the bytes are, what explains the size, which the numbers bear.

`examine` asks in this order: what are the bytes (`files.detect`), which header width makes the
size exact, what explains the size (`scoring`), and which explanation do the numbers speak for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from yolotf.diagnosis import causes as findings
from yolotf.diagnosis import damage, hypotheses, scoring
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.hypotheses import (
    AsIs,
    Edited,
    Explanation,
    Known,
    Partial,
    Place,
    Shifted,
    Trailing,
)
from yolotf.diagnosis.mutations import Graph
from yolotf.diagnosis.target import Case, Subject
from yolotf.files import detect as _file
from yolotf.files.detect import Contents
from yolotf.text import plural
from yolotf.weights import catalog as _known
from yolotf.weights import layout, own_files
from yolotf.weights import statistics as _content
from yolotf.weights.file import WeightsFile
from yolotf.weights.header import NARROW, WIDE, Header
from yolotf.weights.likelihood import Evidence
from yolotf.weights.statistics import Stats

_MOST_MATCHES = 8
"""Known networks that are weighed against the content; rarer ones are only listed."""
_BORNE_OUT = 0.1
"""Share of the numbers an explanation takes for variances that may be impossible."""
_MOST_TRIED = 20
"""Explanations whose variances are looked at, the likeliest first: for a cfg made to be slow there
are as many as layers."""
_UNUSUAL = 4.0
"""Nats against a header of another width than its version asks for."""


@dataclass(frozen=True)
class Answer:
    """What was found out.

    Attributes:
        header: of the file, if it has one that a Darknet could have written.
        causes: everything that keeps file and network apart.
        warnings: it loads, but.
        place: where they part.
        matches: known networks of exactly this size.
    """

    header: Header | None
    causes: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    place: Place | None = None
    matches: tuple[_known.Match, ...] = ()


def same_size_networks(file: WeightsFile, subject: Subject) -> list[Finding]:
    """The warning for a file that fits several networks which decode differently."""
    twins = _known.same_size_networks(subject.network)
    if not twins or own_files.is_of(file.path, subject.network):
        return []
    return [
        findings.SameSizeNetworks(
            path=file.name,
            networks=tuple(twin.name for twin in twins),
            differing=tuple(dict.fromkeys(key for twin in twins for key in twin.keys)),
            title_of=subject.title,
            differences=tuple(twin.difference for twin in twins),
        )
    ]


def examine(file: WeightsFile, contents: Contents, subject: Subject) -> Answer:
    """The answer for a file that may hold floats.

    Raises:
        OSError: it cannot be read, or not any more.
    """
    return _Examination(file, contents, subject).answer()


class _Examination:
    """A file that may hold floats, and the network it is compared with."""

    def __init__(self, file: WeightsFile, contents: Contents, subject: Subject) -> None:
        self.file = file
        self.size = file.size_bytes
        self.contents = contents
        self.subject = subject
        self.runs = _content.runs_of(subject.segments)
        self.warnings: list[Finding] = [
            findings.CfgLine(path=self.file.name, sentence=sentence)
            for sentence in subject.network.warnings
        ]

    def answer(self) -> Answer:
        """Runs the examination."""
        header = Header.parse(self.file.start)
        if how := _file.mangled(self.file.path):
            return self._answer(header, [findings.TextDamage(path=self.file.name, how=how)])
        if header is None or self.size < header.version_size_bytes:
            place = Place(*self.runs[0][:3]) if self.runs else None
            width = header.version_size_bytes if header else WIDE
            case = self._case((header or Header(0, 0, 0, 0, width))._replace(size_bytes=width))
            return self._answer(header, [hypotheses.truncated(case, place, cut=True)], place)
        for width in (WIDE, NARROW):
            if self.size == self.subject.size_bytes(width):
                header = Header.parse(self.file.start, width) or header
                if translated := self._translated(header):
                    return translated
                if fits := self._fitting(header):
                    return fits
        return self._explained(header)

    def _case(self, header: Header) -> Case:
        return Case(self.file, header, self.subject)

    def _fitting(self, header: Header) -> Answer | None:
        """The answer for a file of the right size, unless its numbers speak against it."""
        damaged = damage.find(self.file, self.subject.segments, header.size_bytes)
        if any(each.detected in ("nan_or_inf", "negative_variance") for each in damaged):
            return None
        self._warn_width(header)
        self.warnings += same_size_networks(self.file, self.subject)
        matches = tuple(_known.solve(self.subject.floats))
        if damaged:
            causes = [self._damaged(each, header) for each in damaged]
            start = (damaged[0].start - header.size_bytes) // layout.FLOAT_BYTES
            at = next(run for run in self.runs if run.end > start)
            return self._answer(header, causes, Place(*at[:3]), matches)
        if self._all_zero(header):
            self._warn_unverified("the file holds nothing but zeros")
        elif not any(run.role == "moving_variance" for run in self.runs):
            self._warn_unverified("the network has no batch norm")
        return self._answer(header, [], None, matches)

    def _all_zero(self, header: Header) -> bool:
        """Whether it holds nothing but zeros; the small arrays are asked first."""
        small = [run for run in self.runs if run.role != "kernel"]
        for runs in (small, self.runs):
            scanned = _content.scan(self.file, runs, header.size_bytes)
            if any(found.zero != found.floats for found in scanned):
                return False
        return True

    def _damaged(self, found: damage.Damage, header: Header) -> findings.Damaged:
        """Numbers that are none, or bytes that were never written, or written twice."""
        layer, role = self._at(found.start, header)
        other = ""
        if found.repeats is not None:
            other_layer, other_role = self._at(found.repeats, header)
            other = f"the {other_role} of {self.subject.where(other_layer)}"
        return findings.Damaged(
            path=self.file.name,
            detected=found.detected,
            count=found.number,
            layer=layer,
            role=role,
            offset=found.start,
            end=found.end,
            repeats=found.repeats,
            where=self.subject.where(layer),
            other=other,
        )

    def _at(self, offset: int, header: Header) -> tuple[int, str]:
        """Layer and role of a byte."""
        place = (offset - header.size_bytes) // layout.FLOAT_BYTES
        run = next((run for run in self.runs if run.end > place), self.runs[-1])
        return run.layer, run.role

    def _translated(self, header: Header) -> Answer | None:
        expected = self.subject.size_bytes(header.size_bytes)
        how = _file.newlines(self.file.path, expected)
        if not how:
            return None
        return self._answer(header, [findings.TextDamage(path=self.file.name, how=how)])

    def _warn_width(self, header: Header) -> None:
        if header.size_bytes != header.version_size_bytes:
            self.warnings.append(
                findings.HeaderWidth(
                    path=self.file.name,
                    file=header.size_bytes,
                    expected=header.version_size_bytes,
                    version=f"{header.major}.{header.minor}",
                )
            )

    def _warn_unverified(self, why: str) -> None:
        self.warnings.append(findings.Unverified(path=self.file.name, why=why))

    def _answer(
        self,
        header: Header | None,
        causes: Sequence[Finding],
        place: Place | None = None,
        matches: Sequence[_known.Match] = (),
    ) -> Answer:
        return Answer(
            None if causes and header and not header.plausible else header,
            tuple(causes),
            tuple(self.warnings),
            place,
            tuple(matches),
        )

    def _explained(self, header: Header) -> Answer:
        """The answer for a file that does not fit as it is."""
        best, matches = self._best(header)
        header = Header.parse(self.file.start, best.header_bytes) or header
        case = self._case(header)
        place, borne_out = best.place, self._borne_out(best)
        if not borne_out:
            with Evidence(self.file, best.header_bytes) as evidence:
                place = scoring.last_supported(evidence, self.runs)
        if not header.plausible and not (best.exact and borne_out and best.weight > 0):
            return self._answer(header, [self._binary()], None, matches)
        if not (best.exact and borne_out) and (translated := self._translated(header)):
            return translated
        self._warn_width(header)
        if not borne_out:
            return self._answer(header, [self._unknown(case, place)], place, matches)
        if isinstance(best, AsIs):
            return self._impossible_numbers(header, matches)
        if isinstance(best, Edited):
            best = replace(best, otherwise=self._otherwise(best, matches))
        causes = list(best.causes(case))
        if not isinstance(best, Shifted):
            floats = self.subject.floats if isinstance(best, Trailing) else self.size
            if count := _content.nonfinite(self.file, header.size_bytes, floats):
                causes.append(
                    findings.Damaged(path=self.file.name, detected="nan_or_inf", count=count)
                )
        return self._answer(header, causes, place, matches)

    def _otherwise(self, best: Edited, matches: Sequence[_known.Match]) -> str:
        """Stock networks of the file's size whose heads are of another kind, as they ship."""
        own = self.subject.architecture
        found = [
            f"{name} with {plural(match.classes, 'class', 'classes')} has the same size"
            for match in matches
            if match.architecture is not own and match.layers is None and match.classes
            for name, classes in match.architecture.names.items()
            if classes == match.classes and best.edit.classes is None
        ]
        return f"or {', or '.join(found)}" if found else ""

    def _best(self, header: Header) -> tuple[Explanation, list[_known.Match]]:
        """The likeliest explanation over both header widths, and the known networks."""
        graph = Graph(self.subject.network)
        own = self.subject.architecture
        found: list[Explanation] = []
        listed: list[_known.Match] = []
        floats_behind = {header.size_bytes: floats for header, floats in self.file.layouts()}
        for width in header.widths:
            usual = width == header.version_size_bytes
            floats = floats_behind.get(width)
            if floats is None and not usual:
                continue
            solved = [] if floats is None else _known.solve(floats)
            others = [match for match in solved if not self._covered(match, own)]
            with Evidence(self.file, width) as evidence:
                explanations = scoring.explain(
                    evidence,
                    self.runs,
                    None if floats is None else graph,
                    others[:_MOST_MATCHES],
                    exact=not usual,
                )
            if usual:
                found, listed = explanations, solved
                continue
            # Against its version a header has the other width only where that explains all.
            found += [
                replace(each, unlikeliness=each.unlikeliness + _UNUSUAL) for each in explanations
            ]
            listed = listed or solved
        found.sort(key=lambda explanation: -explanation.score)
        best = next((each for each in found[:_MOST_TRIED] if self._borne_out(each)), found[0])
        if isinstance(best, Partial):
            # A whole stock network is no backbone of a cfg that has a layer more.
            whole = (each for each in found if isinstance(each, Known) and each.is_whole)
            best = next((each for each in whole if each.weight >= best.weight - 1e-6), best)
        if isinstance(best, Known) and own is None:
            # One change makes this cfg a known network's: the change is what helps.
            wanted = list(best.layout())
            edited = [each for each in found if isinstance(each, Edited)][:_MOST_TRIED]
            best = next((each for each in edited if _same_runs(each.layout(), wanted)), best)
        return best, listed

    def _borne_out(self, explanation: Explanation) -> bool:
        """Whether the variances it places are variances."""
        with Evidence(self.file, explanation.header_bytes) as evidence:
            return explanation.impossible(evidence) <= _BORNE_OUT

    def _covered(self, match: _known.Match, own: _known.Architecture | None) -> bool:
        """Whether a single change of the network itself says the same as `match`."""
        if match.architecture is not own:
            return False
        return match.layers is None or match.channels == self.subject.network.input_shape.channels

    def _impossible_numbers(self, header: Header, matches: Sequence[_known.Match]) -> Answer:
        """The right layout with numbers in it that cannot be."""
        scanned = _content.scan(self.file, self.runs, header.size_bytes)
        causes = list(self._numbers(header, scanned))
        others = damage.find(self.file, self.subject.segments, header.size_bytes)
        causes += [self._damaged(each, header) for each in others if each.detected == "huge"]
        bad = (
            Place(*run[:3])
            for run, found in zip(self.runs, scanned, strict=True)
            if _impossible([run], [found])
        )
        return self._answer(header, causes, next(bad, None), matches)

    def _numbers(self, header: Header, scanned: Sequence[Stats]) -> Iterator[Finding]:
        """NaN, infinity and negative variances, the first place of each."""
        for detected in ("nan_or_inf", "negative_variance"):
            bad = [
                (run, count)
                for run, found in zip(self.runs, scanned, strict=True)
                if (count := _bad_numbers(run, found, detected))
            ]
            if not bad:
                continue
            run = bad[0][0]
            yield findings.Damaged(
                path=self.file.name,
                detected=detected,
                count=sum(count for _, count in bad),
                layer=run.layer,
                role=run.role,
                offset=header.size_bytes + layout.FLOAT_BYTES * run.start,
                end=header.size_bytes + layout.FLOAT_BYTES * run.end,
                where=self.subject.where(run.layer),
            )

    def _binary(self) -> Finding:
        """Neither the header nor the size is that of any network."""
        hint = "versions in the header are out of range, and the size is that of no known network"
        contents = replace(self.contents, detected="binary", hint=hint)
        return findings.NotWeights(path=self.file.name, detected="binary", contents=contents)

    def _unknown(self, case: Case, place: Place | None) -> Finding:
        """Nothing explains it."""
        if self.size == case.expected_bytes:
            tried = (
                "the size is right, the numbers are not; tried layers in another order and floats "
                "added or lost"
            )
        else:
            tried = (
                f"{self.size} bytes in place of {case.expected_bytes}; tried other class counts, "
                "channels and masks, every single change of the cfg, and every known network whole "
                "or cut"
            )
        where = f"; they diverge at {self.subject.where(place.layer)}" if place else ""
        return findings.Unknown(
            path=self.file.name,
            story=f"written by another network than {self.subject.source}: {tried}{where}",
        )


def _same_runs(layout_of_edit: Sequence[_content.Run], known: Sequence[_content.Run]) -> bool:
    """Whether both layouts say the same; of some layers a known network has no more than the size.

    Sections may be counted otherwise: one of the two has a layer more.
    """
    edited = {run[1:] for run in layout_of_edit}
    return layout_of_edit[-1].end == known[-1].end and all(
        run[1:] in edited for run in known if run.role != "weights"
    )


def _impossible(runs: Iterable[_content.Run], stats: Iterable[Stats]) -> bool:
    return any(
        _bad_numbers(run, found, "nan_or_inf") or _bad_numbers(run, found, "negative_variance")
        for run, found in zip(runs, stats, strict=True)
    )


def _bad_numbers(run: _content.Run, found: Stats, detected: str) -> int:
    if detected == "nan_or_inf":
        return found.nonfinite
    # Subnormals count as zeros, of either sign.
    negative = run.role == "moving_variance" and found.minimum <= -_content.TINIEST
    return found.negative if negative else 0
