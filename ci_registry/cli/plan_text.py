"""A plan as text for people and as JSON for machines."""

from ci_registry.cli.console import clean
from ci_registry.pipeline.plan import ImagePlan


def plan_as_text(plans: tuple[ImagePlan, ...], notes: tuple[str, ...]) -> str:
    """Return the plan of every image: what happens, why, what would be written."""
    lines = [f"note: {clean(note)}" for note in notes]
    for plan in plans:
        lines += [*([""] if lines else []), *_image(plan)]
    return "\n".join(lines) + "\n"


def _image(plan: ImagePlan) -> list[str]:
    rows = [
        ("action", plan.action if plan.builder_reason in plan.reason else _action(plan)),
        ("dockerfile", plan.dockerfile),
        ("context", plan.context if plan.dockerfile else ""),
        ("target", plan.target),
        ("bases", ", ".join(plan.bases)),
        ("platforms", ", ".join(plan.platforms)),
        ("builder", f"{plan.builder or 'none'}: {plan.builder_reason}"),
        ("cache", _cache(plan)),
        ("scan", f"{plan.scanner}, advisories: {plan.database}"),
        ("policy", plan.policy_source),
        ("push", f"{'yes' if plan.push else 'no'}: {plan.push_reason}"),
        ("sign", f"{'yes' if plan.sign else 'no'}: {plan.sign_reason}"),
    ]
    lines = [f"image {plan.name}"]
    lines += [f"  {name:<11}{clean(text)}" for name, text in rows if text]
    for tag in plan.tags:
        kind = "never moves" if tag.fixed else "moves"
        shown = f"{tag.tag} ({kind})" if tag.tag else f"left out: {tag.reason}"
        lines.append(f"  tag        {clean(f'{tag.template} → {shown}')}")
    lines += [f"  would write  {clean(line)}" for line in plan.writes]
    lines += [f"  note       {clean(note)}" for note in plan.notes]
    for problem in plan.problems:
        where = f"{problem.file}:{problem.line}: " if problem.line else ""
        what = clean(f"{where}{problem.message}")
        lines.append(f"  PROBLEM    {what} (exit {int(problem.exit_code)})")
        lines += [f"             {clean(problem.hint)}"] if problem.hint else []
    return lines


def _action(plan: ImagePlan) -> str:
    return f"{plan.action}: {plan.reason}"


def _cache(plan: ImagePlan) -> str:
    text = ", ".join(f"from {ref}" for ref in plan.cache.imports)
    text += f", to {plan.cache.export}" if plan.cache.export else ""
    return f"{text.strip(', ')}: {plan.cache_reason}" if text else f"none: {plan.cache_reason}"


def plan_as_json(plans: tuple[ImagePlan, ...], notes: tuple[str, ...]) -> dict[str, object]:
    """Return the plan as JSON values; versioned, only additions within a version."""
    return {"schema_version": 1, "notes": list(notes), "images": [_image_json(p) for p in plans]}


def _image_json(plan: ImagePlan) -> dict[str, object]:
    return {
        "name": plan.name,
        "action": plan.action,
        "reason": plan.reason,
        "dockerfile": plan.dockerfile,
        "context": plan.context,
        "target": plan.target,
        "bases": list(plan.bases),
        "platforms": list(plan.platforms),
        "builder": {"name": plan.builder, "reason": plan.builder_reason},
        "cache": {
            "from": list(plan.cache.imports),
            "to": plan.cache.export,
            "reason": plan.cache_reason,
        },
        "scan": {"scanner": plan.scanner, "database": plan.database},
        "policy": plan.policy_source,
        "push": {
            "planned": plan.push,
            "by_digest": plan.by_digest,
            "reason": plan.push_reason,
            "destinations": [place.name for place in plan.destinations],
        },
        "sign": {"planned": plan.sign, "reason": plan.sign_reason},
        "tags": [
            {"template": t.template, "tag": t.tag, "fixed": t.fixed, "reason": t.reason}
            for t in plan.tags
        ],
        "existing_tags": [
            {"destination": e.destination, "tag": e.tag, "digest": e.digest} for e in plan.existing
        ],
        "writes": list(plan.writes),
        "notes": list(plan.notes),
        "problems": [
            {
                "message": p.message,
                "hint": p.hint,
                "exit_code": int(p.exit_code),
                "file": p.file,
                "line": p.line,
            }
            for p in plan.problems
        ],
    }
