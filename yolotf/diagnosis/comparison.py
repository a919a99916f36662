"""Compares a file with a network: its type, its size and its values.

`compare` determines, in this order, the type of the file (`files.detect`), the header width that
makes the size exact, what explains the size (`scoring`), and which explanation the values support.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from yolotf.diagnosis import case_findings, damage, priors, scoring
from yolotf.diagnosis import causes as findings
from yolotf.diagnosis.causes import Finding
from yolotf.diagnosis.channel_flow import ChannelFlow
from yolotf.diagnosis.hypotheses import (
    AsIs,
    Edited,
    Explanation,
    KnownNetwork,
    Partial,
    Shifted,
    Trailing,
)
from yolotf.diagnosis.target import Case, Place, Subject
from yolotf.files import detect
from yolotf.files.detect import Contents
from yolotf.text import plural
from yolotf.weights import catalog, layout, own_files, same_size, statistics
from yolotf.weights.file import ParsedFile, WeightsFile
from yolotf.weights.header import NARROW, WIDE, Header
from yolotf.weights.likelihood import Evidence
from yolotf.weights.statistics import Stats

_MAX_MATCHES = 8
"""The most known networks that are compared with the values; rarer ones are only listed."""
_MAX_IMPOSSIBLE_SHARE = 0.1
"""The largest share of impossible values among the moving variances of a supported explanation."""
_MAX_EXPLANATIONS = 20
"""The most explanations whose variances are read, likeliest first. A malicious cfg may lead to as
many explanations as it has layers."""


@dataclass(frozen=True)
class ComparisonResult:
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
    matches: tuple[catalog.Match, ...] = ()


def same_size_networks(file: WeightsFile, subject: Subject) -> list[Finding]:
    """Returns a warning if networks of the same size decode differently; otherwise nothing."""
    networks = same_size.same_size_networks(subject.network)
    if not networks or own_files.was_written_for(file.path, subject.network):
        return []
    return [
        findings.SameSizeNetworks(
            path=file.name,
            networks=tuple(network.name for network in networks),
            differing=tuple(dict.fromkeys(key for network in networks for key in network.keys)),
            title_of=subject.title,
            differences=tuple(network.difference for network in networks),
        )
    ]


def compare(file: WeightsFile, contents: Contents, subject: Subject) -> ComparisonResult:
    """Compares a file that may hold floats with the network of `subject`.

    Raises:
        OSError: the file cannot be read, or changed in the meantime.
    """
    return _Comparison(file, contents, subject).compare()


class _Comparison:
    """The comparison of a file that may hold floats with a network."""

    def __init__(self, file: WeightsFile, contents: Contents, subject: Subject) -> None:
        self.file = file
        self.contents = contents
        self.subject = subject
        self.runs = statistics.runs_of(subject.segments)
        self.warnings: list[Finding] = [
            findings.CfgLine(path=self.file.name, sentence=sentence)
            for sentence in subject.network.warnings
        ]

    def compare(self) -> ComparisonResult:
        """Compares the file with the network."""
        header = Header.parse(self.file.start)
        if how := detect.mangled(self.file.path):
            return self._result(header, [findings.TextDamage(path=self.file.name, how=how)])
        if header is None or self.file.size_bytes < header.version_size_bytes:
            place = Place(*self.runs[0][:3]) if self.runs else None
            width = header.version_size_bytes if header else WIDE
            # The file ends inside its header, whose size follows from the version alone.
            assumed = (header or Header(0, 0, 0, 0, width))._replace(size_bytes=width)
            case = Case(self.file.with_header(assumed), self.subject)
            return self._result(header, [case_findings.truncated(case, place, cut=True)], place)
        file = self.file.with_header(header)
        for width in (WIDE, NARROW):
            if file.size_bytes == self.subject.size_bytes(width):
                file = file.with_width(width)
                if damaged := self._newline_damage(file):
                    return damaged
                if matching := self._matching(file):
                    return matching
        return self._explained(file)

    def _matching(self, file: ParsedFile) -> ComparisonResult | None:
        """Returns the result for a file of the right size; None if its values contradict it."""
        damaged = damage.find(file, self.subject.segments)
        if any(span.detected in ("nan_or_inf", "negative_variance") for span in damaged):
            return None
        self._warn_width(file.header)
        self.warnings += same_size_networks(self.file, self.subject)
        matches = tuple(catalog.solve(self.subject.floats))
        if damaged:
            causes = [self._damaged(span, file.header) for span in damaged]
            start = (damaged[0].start - file.header.size_bytes) // layout.FLOAT_BYTES
            first_damaged = next(run for run in self.runs if run.end > start)
            return self._result(file.header, causes, Place(*first_damaged[:3]), matches)
        if self._only_zeros(file):
            self._warn_unverified("the file holds nothing but zeros")
        elif not any(run.role == "moving_variance" for run in self.runs):
            self._warn_unverified("the network has no batch norm")
        return self._result(file.header, [], None, matches)

    def _only_zeros(self, file: ParsedFile) -> bool:
        """Returns whether all values are zero; reads the small arrays first."""
        small = [run for run in self.runs if run.role != "kernel"]
        for runs in (small, self.runs):
            scanned = statistics.scan(file, runs)
            if any(stats.zero != stats.floats for stats in scanned):
                return False
        return True

    def _damaged(self, damaged: damage.Damage, header: Header) -> findings.Damaged:
        """Returns the cause for a damaged range."""
        layer, role = self._array_at(damaged.start, header)
        other = ""
        if damaged.repeats is not None:
            other_layer, other_role = self._array_at(damaged.repeats, header)
            other = f"the {other_role} of {self.subject.where(other_layer)}"
        return findings.Damaged(
            path=self.file.name,
            detected=damaged.detected,
            count=damaged.number,
            layer=layer,
            role=role,
            offset=damaged.start,
            end=damaged.end,
            repeats=damaged.repeats,
            where=self.subject.where(layer),
            other=other,
        )

    def _array_at(self, offset: int, header: Header) -> tuple[int, str]:
        """Returns layer and role of the array at an offset in bytes."""
        place = (offset - header.size_bytes) // layout.FLOAT_BYTES
        run = next((run for run in self.runs if run.end > place), self.runs[-1])
        return run.layer, run.role

    def _newline_damage(self, file: ParsedFile) -> ComparisonResult | None:
        """Returns the result for a file with translated line ends; None for any other."""
        how = detect.newlines(file.path, file.size_of(self.subject.floats))
        if not how:
            return None
        return self._result(file.header, [findings.TextDamage(path=self.file.name, how=how)])

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

    def _result(
        self,
        header: Header | None,
        causes: Sequence[Finding],
        place: Place | None = None,
        matches: Sequence[catalog.Match] = (),
    ) -> ComparisonResult:
        return ComparisonResult(
            None if causes and header and not header.plausible else header,
            tuple(causes),
            tuple(self.warnings),
            place,
            tuple(matches),
        )

    def _explained(self, file: ParsedFile) -> ComparisonResult:
        """Returns the result for a file that does not match: its best explanation."""
        best, matches = self._best(file)
        file = file.with_width(best.header_bytes)
        header, case = file.header, Case(file, self.subject)
        place, plausible = best.place, _is_plausible(best, file)
        if not plausible:
            with Evidence(file) as evidence:
                place = scoring.first_unsupported(evidence, self.runs)
        if not header.plausible and not (best.exact and plausible and best.support > 0):
            return self._result(header, [self._binary()], None, matches)
        if not (best.exact and plausible) and (damaged := self._newline_damage(file)):
            return damaged
        self._warn_width(header)
        if not plausible:
            return self._result(header, [self._unknown(case, place)], place, matches)
        if isinstance(best, AsIs):
            return self._impossible_values_only(file, matches)
        if isinstance(best, Edited):
            best = replace(best, other_networks=self._networks_of_same_size(best, matches))
        causes = list(best.causes(case))
        if not isinstance(best, Shifted):
            floats = self.subject.floats if isinstance(best, Trailing) else file.size_bytes
            if count := statistics.nonfinite(file, floats):
                causes.append(
                    findings.Damaged(path=self.file.name, detected="nan_or_inf", count=count)
                )
        return self._result(header, causes, place, matches)

    def _networks_of_same_size(self, best: Edited, matches: Sequence[catalog.Match]) -> str:
        """Returns other stock networks of the file's size, with their own classes, in words."""
        own_architecture = self.subject.architecture
        clauses = [
            f"{name} with {plural(match.classes, 'class', 'classes')} has the same size"
            for match in matches
            if match.architecture is not own_architecture and match.layers is None and match.classes
            for name, classes in match.architecture.names.items()
            if classes == match.classes and best.edit.classes is None
        ]
        return f"or {', or '.join(clauses)}" if clauses else ""

    def _best(self, file: ParsedFile) -> tuple[Explanation, list[catalog.Match]]:
        """Returns the likeliest explanation over both header widths, and the known networks."""
        own_architecture = self.subject.architecture
        explanations, matches = self._explanations(file, own_architecture)
        likeliest = explanations[:_MAX_EXPLANATIONS]
        plausible = (explanation for explanation in likeliest if _is_plausible(explanation, file))
        best = next(plausible, explanations[0])
        if isinstance(best, Partial):
            # A whole stock network is likelier than a backbone of a cfg with one more layer.
            least_support = best.support - 1e-6
            whole_networks = (
                explanation
                for explanation in explanations
                if isinstance(explanation, KnownNetwork) and explanation.is_whole
            )
            supported = (network for network in whole_networks if network.support >= least_support)
            best = next(supported, best)
        if isinstance(best, KnownNetwork) and own_architecture is None:
            # If a single change turns this cfg into a known network, report the change.
            known_runs = list(best.layout())
            edited = [edited for edited in explanations if isinstance(edited, Edited)]
            equal = (
                explanation
                for explanation in edited[:_MAX_EXPLANATIONS]
                if _same_runs(explanation.layout(), known_runs)
            )
            best = next(equal, best)
        return best, matches

    def _explanations(
        self, file: ParsedFile, own_architecture: catalog.Architecture | None
    ) -> tuple[list[Explanation], list[catalog.Match]]:
        """Returns all explanations, likeliest first, and the known networks of the file's size."""
        flow = ChannelFlow(self.subject.network)
        explanations: list[Explanation] = []
        matches: list[catalog.Match] = []
        floats_after = {parsed.header.size_bytes: parsed.floats for parsed in file.layouts()}
        for width in file.header.widths:
            usual = width == file.header.version_size_bytes
            floats = floats_after.get(width)
            if floats is None and not usual:
                continue
            matches_of_width = [] if floats is None else catalog.solve(floats)
            others = [
                match for match in matches_of_width if not self._is_own(match, own_architecture)
            ]
            with Evidence(file.with_width(width)) as evidence:
                explanations_of_width = scoring.explain(
                    evidence,
                    self.runs,
                    None if floats is None else flow,
                    others[:_MAX_MATCHES],
                    exact=not usual,
                )
            if usual:
                explanations, matches = explanations_of_width, matches_of_width
                continue
            # A width that contradicts the version counts only if it explains the whole file.
            explanations += [
                replace(explanation, penalty=explanation.penalty + priors.OTHER_HEADER)
                for explanation in explanations_of_width
            ]
            matches = matches or matches_of_width
        explanations.sort(key=lambda explanation: -explanation.score)
        return explanations, matches

    def _is_own(self, match: catalog.Match, own_architecture: catalog.Architecture | None) -> bool:
        """Returns whether a single change of the network itself is equivalent to `match`."""
        if match.architecture is not own_architecture:
            return False
        return match.layers is None or match.channels == self.subject.network.input_shape.channels

    def _impossible_values_only(
        self, file: ParsedFile, matches: Sequence[catalog.Match]
    ) -> ComparisonResult:
        """Returns the result for the right layout with impossible values."""
        scanned = statistics.scan(file, self.runs)
        causes = list(self._value_causes(file, scanned))
        damaged = damage.find(file, self.subject.segments)
        causes += [self._damaged(span, file.header) for span in damaged if span.detected == "huge"]
        impossible = (
            Place(*run[:3])
            for run, stats in zip(self.runs, scanned, strict=True)
            if _impossible_values(run, stats, "nan_or_inf")
            or _impossible_values(run, stats, "negative_variance")
        )
        return self._result(file.header, causes, next(impossible, None), matches)

    def _value_causes(self, file: ParsedFile, scanned: Sequence[Stats]) -> Iterator[Finding]:
        """Yields causes for NaN or infinity and for negative variances, with the first place."""
        for detected in ("nan_or_inf", "negative_variance"):
            counts = [
                (run, count)
                for run, stats in zip(self.runs, scanned, strict=True)
                if (count := _impossible_values(run, stats, detected))
            ]
            if not counts:
                continue
            run = counts[0][0]
            yield findings.Damaged(
                path=self.file.name,
                detected=detected,
                count=sum(count for _, count in counts),
                layer=run.layer,
                role=run.role,
                offset=file.header.size_bytes + layout.FLOAT_BYTES * run.start,
                end=file.header.size_bytes + layout.FLOAT_BYTES * run.end,
                where=self.subject.where(run.layer),
            )

    def _binary(self) -> Finding:
        """Returns the cause for a file whose header and size match no network."""
        hint = "versions in the header are out of range, and the size is that of no known network"
        contents = replace(self.contents, detected="binary", hint=hint)
        return findings.NotWeights(path=self.file.name, detected="binary", contents=contents)

    def _unknown(self, case: Case, place: Place | None) -> Finding:
        """Returns the cause for a file that no explanation accounts for."""
        if case.file.size_bytes == case.expected_bytes:
            tried = (
                "the size is right, the numbers are not; tried layers in another order and floats "
                "added or lost"
            )
        else:
            tried = (
                f"{case.file.size_bytes} bytes in place of {case.expected_bytes}; tried other "
                "class counts, channels and masks, every single change of the cfg, and every known "
                "network whole or cut"
            )
        where = f"; they diverge at {self.subject.where(place.layer)}" if place else ""
        return findings.Unknown(
            path=self.file.name,
            problem=f"written by another network than {self.subject.source}: {tried}{where}",
        )


def _is_plausible(explanation: Explanation, file: ParsedFile) -> bool:
    """Returns whether the values at an explanation's moving variances can be variances."""
    with Evidence(file.with_width(explanation.header_bytes)) as evidence:
        return explanation.impossible(evidence) <= _MAX_IMPOSSIBLE_SHARE


def _same_runs(edited: Sequence[statistics.Run], known: Sequence[statistics.Run]) -> bool:
    """Returns whether the layouts are the same, apart from the indices of their sections.

    Arrays of role `weights` are not compared: for some layers only the number of floats is known.
    """
    edited_arrays = {run[1:] for run in edited}
    return edited[-1].end == known[-1].end and all(
        run[1:] in edited_arrays for run in known if run.role != "weights"
    )


def _impossible_values(run: statistics.Run, stats: Stats, detected: str) -> int:
    """Returns how many values of an array are not finite, or are negative variances."""
    if detected == "nan_or_inf":
        return stats.nonfinite
    # Subnormals of either sign count as zero.
    negative = run.role == "moving_variance" and stats.minimum <= -statistics.TINIEST
    return stats.negative if negative else 0
