"""Compares a file with a network: its type, its size and its values.

`compare` answers in this order: which type of file it is (`files.detect`), which header width
makes the size exact, what explains the size (`scoring`), and which explanation the values support.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from yolotf.diagnosis import causes as findings
from yolotf.diagnosis import damage, hypotheses, priors, scoring
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.channel_flow import ChannelFlow
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
"""The most known networks that are compared with the values; rarer ones are only listed."""
_BORNE_OUT = 0.1
"""The largest share of impossible values among the moving variances of a supported explanation."""
_MOST_TRIED = 20
"""The most explanations whose variances are read, likeliest first. A hostile cfg may lead to as
many explanations as it has layers."""


@dataclass(frozen=True)
class Answer:
    """The result of a comparison.

    Attributes:
        header: the header of the file; None unless Darknet could have written it.
        causes: every reason why file and network do not match.
        warnings: problems that do not prevent loading.
        place: where file and network diverge.
        matches: known networks of exactly this size.
    """

    header: Header | None
    causes: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    place: Place | None = None
    matches: tuple[_known.Match, ...] = ()


def same_size_networks(file: WeightsFile, subject: Subject) -> list[Finding]:
    """Returns a warning if networks of the same size decode differently; otherwise nothing."""
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


def compare(file: WeightsFile, contents: Contents, subject: Subject) -> Answer:
    """Compares a file that may hold floats with the network of `subject`.

    Raises:
        OSError: the file cannot be read, or changed in the meantime.
    """
    return _Comparison(file, contents, subject).answer()


class _Comparison:
    """The comparison of a file that may hold floats with a network."""

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
        """Compares them."""
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
        """Returns the answer for a file of the right size; None if its values contradict it."""
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
        """Returns whether all values are zero; reads the small arrays first."""
        small = [run for run in self.runs if run.role != "kernel"]
        for runs in (small, self.runs):
            scanned = _content.scan(self.file, runs, header.size_bytes)
            if any(found.zero != found.floats for found in scanned):
                return False
        return True

    def _damaged(self, found: damage.Damage, header: Header) -> findings.Damaged:
        """Returns the cause for a damaged range."""
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
        """Returns layer and role of the array at an offset in bytes."""
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
        """Returns the answer for a file that does not match: its best explanation."""
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
        """Returns other stock networks of the file's size, with their own classes, in words."""
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
        """Returns the likeliest explanation over both header widths, and the known networks."""
        flow = ChannelFlow(self.subject.network)
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
                    None if floats is None else flow,
                    others[:_MOST_MATCHES],
                    exact=not usual,
                )
            if usual:
                found, listed = explanations, solved
                continue
            # A width that contradicts the version counts only if it explains the whole file.
            found += [
                replace(each, unlikeliness=each.unlikeliness + priors.OTHER_HEADER)
                for each in explanations
            ]
            listed = listed or solved
        found.sort(key=lambda explanation: -explanation.score)
        best = next((each for each in found[:_MOST_TRIED] if self._borne_out(each)), found[0])
        if isinstance(best, Partial):
            # A whole stock network is likelier than a backbone of a cfg with one more layer.
            whole = (each for each in found if isinstance(each, Known) and each.is_whole)
            best = next((each for each in whole if each.weight >= best.weight - 1e-6), best)
        if isinstance(best, Known) and own is None:
            # If a single change turns this cfg into a known network, report the change.
            wanted = list(best.layout())
            edited = [each for each in found if isinstance(each, Edited)][:_MOST_TRIED]
            best = next((each for each in edited if _same_runs(each.layout(), wanted)), best)
        return best, listed

    def _borne_out(self, explanation: Explanation) -> bool:
        """Returns whether the values at its moving variances can be variances."""
        with Evidence(self.file, explanation.header_bytes) as evidence:
            return explanation.impossible(evidence) <= _BORNE_OUT

    def _covered(self, match: _known.Match, own: _known.Architecture | None) -> bool:
        """Returns whether a single change of the network itself is equivalent to `match`."""
        if match.architecture is not own:
            return False
        return match.layers is None or match.channels == self.subject.network.input_shape.channels

    def _impossible_numbers(self, header: Header, matches: Sequence[_known.Match]) -> Answer:
        """Returns the answer for the right layout with impossible values."""
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
        """Yields causes for NaN or infinity and for negative variances, with the first place."""
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
        """Returns the cause for a file whose header and size are of no network."""
        hint = "versions in the header are out of range, and the size is that of no known network"
        contents = replace(self.contents, detected="binary", hint=hint)
        return findings.NotWeights(path=self.file.name, detected="binary", contents=contents)

    def _unknown(self, case: Case, place: Place | None) -> Finding:
        """Returns the cause for a file that nothing explains."""
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
    """Returns whether both layouts are the same, apart from the indices of their sections.

    Arrays of role `weights` are not compared: for some layers only the number of floats is known.
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
    # Subnormals of either sign count as zero.
    negative = run.role == "moving_variance" and found.minimum <= -_content.TINIEST
    return found.negative if negative else 0
