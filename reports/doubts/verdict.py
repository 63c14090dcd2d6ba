"""What does the verdict itself say against what it left standing?"""

from collections.abc import Iterator

from attacks.doubts import MEANINGS
from attacks.verdict import Stage
from reports import verdicts, words
from reports.doubts.evidence import Evidence, doubt, graded
from reports.verdicts import Verdict


def doubted_by_the_verdict(evidence: Evidence) -> Iterator[dict]:
    for (model, threat), verdict in evidence.verdicts.items():
        standing = int(verdict.standing.sum())
        for flag, meaning in MEANINGS.items():
            count = verdict.with_doubt(flag)
            if count:
                text = f"For {words.of(count, standing)} examples that stand, {meaning.what}. {meaning.remedy}"
                yield doubt(graded(count, len(verdict.standing)), text + _further(verdict), model, threat)


def gradients_failed(evidence: Evidence) -> Iterator[dict]:
    for (model, threat), verdict in evidence.verdicts.items():
        broken = verdict.correct & verdict.fooled
        count, total = int((broken & (verdict.stage == Stage.SEARCH)).sum()), int(broken.sum())
        if count:
            text = (
                f"{words.of(count, total)} examples that {verdict.attack} broke withstood its gradients and fell to "
                "its search without them: the gradients are masked there, and what stands rests on that search. "
                f"Give it more queries (--attack {verdict.attack.partition(':')[0]}:queries=50000)."
            )
            yield doubt(graded(count, len(broken)), text, model, threat)


def still_finding(evidence: Evidence) -> Iterator[dict]:
    for (model, threat), verdict in evidence.verdicts.items():
        beyond, count = verdict.last(verdicts.LAST["tenth"])
        n = len(verdict.correct)
        if graded(min(count, int(verdict.standing.sum())), n) == "warning":
            text = (
                f"The number is not final: the last tenth of the passes that {verdict.attack} spent on what stands, "
                f"those after the first {beyond:,} of an example, still broke {words.of(count, n)}. {_more(verdict)}"
            )
            yield doubt("warning", text, model, threat)


def _further(verdict: Verdict) -> str:
    return " This was a first look: --effort standard goes after it." if verdict.effort == "quick" else ""


def _more(verdict: Verdict) -> str:
    higher = {"quick": "Use --effort standard.", "standard": "Use --effort exhaustive."}
    return higher.get(verdict.effort, "Give it more rounds (--attack verdict:effort=exhaustive,rounds=64).")
