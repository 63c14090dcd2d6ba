"""Every fused operation in plain PyTorch: the specification that the Triton twins are tested against.

Shapes: images are flat [b, d], logits [b, K], one value per row [b]. No operation mixes rows, and none rounds a row
differently for the company it is in.
"""

import torch
from torch import Tensor

NEWTON_STEPS = 32  # at most; two or three do, but the reach of a heavy-tailed direction takes ten
PHILOX_ROUNDS = 10
CERTAIN = 16  # units in the last place of the largest logit by which the lead must be clear
FAR = 1024  # times the logits that compete: beyond it, a logit masks its class out and says nothing of their rounding
WORD = 0xFFFFFFFF


def row_sum(flat: Tensor) -> Tensor:
    """[b, d] -> [b]."""
    # A reduction to one number is split over threads and rounds otherwise: a lone row is summed beside its copy.
    return flat.expand(2, -1).sum(1)[:1] if len(flat) == 1 else flat.sum(1)


def row_norm(flat: Tensor) -> Tensor:
    """[b, d] -> [b], Euclidean."""
    return torch.linalg.vector_norm(flat, dim=1)


def step_linf(
    x_adv: Tensor, direction: Tensor, length: Tensor, low: Tensor, high: Tensor, unit: Tensor | None = None
) -> Tensor:
    """x_adv + length [b] * sign(direction), clamped to [low, high] [b, d], which hold ball and bounds in one.

    unit: [b, d], what each coordinate moves for a length of 1, where not 1.
    """
    length = length.clamp_max(torch.finfo(x_adv.dtype).max)  # inf * sign(0) would be NaN
    ahead = direction.sign()
    if unit is not None:
        ahead.mul_(unit)
    ahead.mul_(length[:, None]).add_(x_adv)
    return torch.clamp(ahead, low, high, out=ahead)


def step_l2(
    x: Tensor, x_adv: Tensor, direction: Tensor, length: Tensor, radius: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """x_adv + length [b] along direction, back onto what the L2 ball of radius [b] round x shares with [low, high]."""
    length = length.clamp_max(torch.finfo(x.dtype).max ** 0.25)  # so that its square, summed, is finite
    # The squares of a gradient of 1e-25 underflow: the largest entry becomes 1 first.
    largest = direction.abs().amax(1, keepdim=True)
    unit = direction / largest.clamp_min_(torch.finfo(x.dtype).tiny)
    floor = torch.finfo(x.dtype).eps  # of a norm that is 1 or more, unless the row is zeros (or denormal)
    scale = length / row_norm(unit).clamp_min_(floor)
    return shrink_l2(x, unit.mul_(scale[:, None]).add_(x_adv), radius, low, high)


def shrink_l2(x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor, longest: float = 1.0) -> Tensor:
    """clamp(x + s (z - x), low, high) with s in [0, longest] as large as the L2 radius [b] allows, in every row.

    With longest = 1 this is the Euclidean projection of z onto ball and box together (for z - x = d, its KKT
    conditions give d / (1 + mu), clamped). In s^2 the squared size sum(min(s^2 d^2, room^2)) is concave, so that
    Newton's method climbs to the radius from below. A row that has arrived stays as it is while others climb.
    """
    tiny = torch.finfo(x.dtype).tiny
    delta = z - x
    s = (radius / row_norm(delta).clamp_min_(tiny)).clamp_max_(longest)
    enough = radius * (1 - 64 * torch.finfo(x.dtype).eps)
    near = x
    for _ in range(NEWTON_STEPS):
        ahead = (delta * s[:, None]).add_(x)
        near = ahead.clamp(low, high)
        size = row_norm(near - x)
        short = (size < enough) & (s < longest)
        if not short.any():
            break
        uncut = torch.eq(ahead, near, out=ahead)  # 1.0 or 0.0: on a CPU a bool in between costs as much as five passes
        free = row_norm(uncut.mul_(delta)).clamp_min_(tiny)
        gained = ((radius - size) / free) * ((radius + size) / free)
        s = torch.where(short, (s * s + gained).sqrt_(), s).clamp_max_(longest)
    return near


def ascend_linf(
    x_adv: Tensor,
    before: Tensor,
    grad: Tensor,
    better: Tensor,
    best: Tensor,
    best_grad: Tensor,
    length: Tensor,
    low: Tensor,
    high: Tensor,
    unit: Tensor | None = None,
    inertia: float = 0.0,
) -> Tensor:
    """One step of APGD (arXiv 2003.01690): `step_linf`, of which `inertia` gives way to the last move, from `before`.

    In place, x_adv and grad become best and best_grad (contiguous) in the rows that are better [b] bool.
    """
    _remember(better, x_adv, best)
    _remember(better, grad, best_grad)
    ahead = _with_inertia(step_linf(x_adv, grad, length, low, high, unit), x_adv, before, inertia)
    return torch.clamp(ahead, low, high, out=ahead)


def ascend_l2(
    x: Tensor,
    x_adv: Tensor,
    before: Tensor,
    grad: Tensor,
    better: Tensor,
    best: Tensor,
    best_grad: Tensor,
    length: Tensor,
    radius: Tensor,
    low: Tensor,
    high: Tensor,
    inertia: float = 0.0,
) -> Tensor:
    """What `ascend_linf` does, by `step_l2`, and back onto what the ball of radius [b] round x shares with the box."""
    _remember(better, x_adv, best)
    _remember(better, grad, best_grad)
    ahead = step_l2(x, x_adv, grad, length, radius, low, high)
    return shrink_l2(x, _with_inertia(ahead, x_adv, before, inertia), radius, low, high)


def _remember(better: Tensor, this: Tensor, best: Tensor) -> None:
    torch.where(better[:, None], this, best, out=best)


def _with_inertia(ahead: Tensor, x_adv: Tensor, before: Tensor, inertia: float) -> Tensor:
    """In ahead's place."""
    return ahead.sub_(x_adv).mul_(1 - inertia).add_(x_adv).add_((x_adv - before).mul_(inertia))


def project_l1(x: Tensor, z: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Euclidean projection on the L1 ball round x and the box together (arXiv 2103.01208), exact, O(d log d).

    Where the ball binds, coordinate i moves by clamp(|d_i| - cut, 0, room_i): the sum of these is piecewise linear in
    `cut`, with corners at |d_i| and |d_i| - room_i; the corners are sorted, the sum is taken at each, and the cut
    that gives the radius lies on a line between two of them.
    """
    delta = (z - x).double()
    length = delta.abs()
    # In float64, where the differences are exact: x + room is the bound itself.
    room = torch.where(delta > 0, high.double() - x.double(), x.double() - low.double()).clamp_min(0)
    radius = radius.double().clamp_max(torch.finfo(torch.float64).max / 4)
    corners = torch.cat((length, (length - room).clamp_min(0)), 1)  # walking down: a coordinate starts, then is full
    turns = torch.cat((torch.ones_like(length), -torch.ones_like(length)), 1)
    corners, order = corners.sort(dim=1, descending=True)
    slope = turns.gather(1, order).cumsum(1)
    gaps = corners[:, :-1] - corners[:, 1:]
    sums = torch.cat((torch.zeros_like(corners[:, :1]), (gaps * slope[:, :-1]).cumsum(1)), 1)  # at each corner
    last = ((sums <= radius[:, None]).sum(1, keepdim=True) - 1).clamp_min(0)
    rest = radius[:, None] - sums.gather(1, last)
    cut = (corners.gather(1, last) - rest / slope.gather(1, last).clamp_min(1)).clamp_min(0)
    cut = torch.where(row_sum(torch.minimum(length, room))[:, None] <= radius[:, None], 0.0, cut)
    moved = torch.minimum((length - cut).clamp_min(0), room) * delta.sign()
    nearest = (x.double() + moved).to(x.dtype)
    beyond = (nearest.double() - x.double()).abs() > moved.abs()
    return torch.where(beyond, torch.nextafter(nearest, x), nearest).clamp(low, high)


def recolour(x: Tensor, x_adv: Tensor, corner: Tensor, side: int, colour: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x_adv [b, C, H, W] with x + colour [b, C] in a square of that side; clamped to [low, high] [b, C * H * W].

    corner: [b, 2] in [0, 1), how far down and to the right the square lies of how far it can.
    """
    _, channels, height, width = x.shape
    here = window(corner[:, 0], corner[:, 1], side, height, width).expand(-1, channels, -1)
    painted = x_adv.flatten(2).scatter(2, here, x.flatten(2).gather(2, here) + colour[:, :, None])
    return painted.flatten(1).clamp(low, high).view_as(x)


def window(top: Tensor, left: Tensor, side: int, height: int, width: int) -> Tensor:
    """[b, 1, side * side] int64: places in the flat image of a square of that side; top and left [b] are in [0, 1)."""
    top, left = (top * (height - side + 1)).long(), (left * (width - side + 1)).long()
    at = torch.arange(side, device=top.device)
    return (top * width + left)[:, None, None] + (at[:, None] * width + at).flatten()


def on_grid(x: Tensor, x_adv: Tensor, levels: int) -> Tensor:
    """x_adv [..., b, d] on the grid k / levels, no further from x [b, d], which lies on it, in any coordinate."""
    base = (x * levels).round()
    steps = (x_adv - x) * levels
    # A step of exactly 8 levels may arrive as 7.9999; truncation goes towards x and stays in the ball.
    return (base + (steps + steps.sign() * 1e-3).trunc()).clamp(0, levels) / levels


def take_rows(tensors: list[Tensor], rows: Tensor) -> list[Tensor]:
    """These rows [k] int64 of each, whatever its shape [b, ...] and type."""
    return [tensor[rows] for tensor in tensors]


def margin(
    logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Best other logit minus the label's; targeted: the label's minus the rival's (`versus`, else the best other).

    Returns (value [b], slope [b, K] = d value / d logits, reached [b] bool as in `verdict`).
    """
    label, rival_at, rival = _duel(logits, labels, versus)
    sign = 1.0 if targeted else -1.0
    slope = torch.zeros_like(logits).scatter_(1, rival_at[:, None], -sign).scatter_(1, labels[:, None], sign)
    return sign * (label - rival), slope, verdict(logits, labels, targeted)


def dlr(logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The margin over the spread of the top logits (z1 - z3; targeted z1 - (z3 + z4) / 2); returns what `margin` does.

    Three classes: z1 - z3 for both. Two classes, or no spread: the margin itself.
    """
    value, slope, reached = margin(logits, labels, targeted, versus)
    classes = logits.shape[1]
    if classes < 3:
        return value, slope, reached
    top, at = logits.topk(min(classes, 4 if targeted else 3), dim=1)
    tail = top[:, 2:].mean(1)
    spread = top[:, 0] - tail
    spread = spread.masked_fill(spread == 0, 1.0)  # equal top logits: the margin itself, not its 1e38-fold
    weights = logits.new_full((len(top), top.shape[1] - 1), -1.0 / (top.shape[1] - 2))
    weights[:, 0] = 1.0
    spread_slope = torch.zeros_like(logits).scatter_(1, torch.cat((at[:, :1], at[:, 2:]), 1), weights)
    ratio = value / spread
    return ratio, (slope - spread_slope * ratio[:, None]) / spread[:, None], reached


def cross_entropy(
    logits: Tensor, labels: Tensor, targeted: bool, versus: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """-log softmax at the label; targeted: log softmax. Returns what `margin` does; `versus` plays no part."""
    at = labels[:, None]
    lead = logits.argmax(1, keepdim=True)
    behind = logits - logits.gather(1, lead)
    weights = behind.exp()
    rest = weights.scatter(1, lead, 0.0).sum(1, keepdim=True)
    value = rest.log1p().sub_(behind.gather(1, at)).squeeze(1)
    # 1 - p rounds to 0 from a margin of 17 on (float32); the sum of the others' probabilities does not.
    slope = weights.scatter_(1, at, 0.0).div_(1 + rest)
    slope.scatter_(1, at, slope.sum(1, keepdim=True).neg_())
    if targeted:
        value, slope = value.neg_(), slope.neg_()
    return value, slope, _clearly(lead.squeeze(1), logits, labels, targeted)


def over_largest(slope: Tensor) -> Tensor:
    """[b, K]: each row over its largest entry."""
    return slope / slope.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(slope.dtype).tiny)


def verdict(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """[b] bool: the label has lost the lead (targeted: has it), all logits are finite, and rounding cannot undo it.

    The lead must exceed CERTAIN units in the last place of the largest logit (at most of FAR times the two that
    compete), so that the same input evaluated in another batch, where libraries add in another order, gets the same
    answer.
    """
    return _clearly(logits.argmax(1), logits, labels, targeted)


def _clearly(lead: Tensor, logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """The verdict, where the class that leads [b] is known."""
    reached = lead == labels if targeted else lead != labels
    if reached.is_cpu and not reached.any():
        return reached
    label, _, rival = _duel(logits, labels, None)
    ahead = label - rival if targeted else rival - label
    ulp = min(torch.finfo(logits.dtype).eps, torch.finfo(torch.float32).eps)
    largest = torch.minimum(logits.abs().amax(1), FAR * torch.maximum(label.abs(), rival.abs()))
    return (ahead > CERTAIN * ulp * largest) & logits.isfinite().all(1)


def _duel(logits: Tensor, labels: Tensor, versus: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The label's logit [b], the rival's index [b] and the rival's logit [b]."""
    label = logits.gather(1, labels[:, None]).squeeze(1)
    if versus is not None:
        return label, versus, logits.gather(1, versus[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    at = others.argmax(1)  # on a CPU `max` wakes threads for however few numbers
    return label, at, others.gather(1, at[:, None]).squeeze(1)


def random_words(seed: int, ids: Tensor, draw: int, count: int) -> Tensor:
    """[b, count] int64 in [0, 2^32): Philox-4x32-10 (Salmon et al. 2011), key = seed, counter = (block, draw, id)."""
    # The words of the counter are broadcast against each other: two rounds go by before all are [b, blocks].
    blocks = torch.arange(-(-count // 4), device=ids.device)[None, :]
    draws = torch.full_like(blocks[:, :1], draw & WORD)
    low, high = ((half & WORD)[:, None] for half in (ids, ids >> 32))
    words = philox((blocks, draws, low, high), (seed & WORD, (seed >> 32) & WORD))
    return torch.stack(words, dim=-1).flatten(1)[:, :count]


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words from four words of counter and two of key: all int64 in [0, 2^32)."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(PHILOX_ROUNDS):
        # int64 products wrap modulo 2^64, which leaves both halves of the 64-bit product right.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = ((p1 >> 32) & WORD) ^ c1 ^ k0, p1 & WORD, ((p0 >> 32) & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def uniform(seed: int, ids: Tensor, draw: int, count: int, dtype: torch.dtype) -> Tensor:
    """[b, count] in [0, 1): 24 bits each, in float64 53 bits."""
    if dtype == torch.float64:
        words = random_words(seed, ids, draw, 2 * count).unflatten(1, (count, 2))
        return ((words[..., 0] >> 5) * 2**26 + (words[..., 1] >> 6)).double() * 2.0**-53
    return ((random_words(seed, ids, draw, count) >> 8).float() * 2.0**-24).to(dtype)


def normal(seed: int, ids: Tensor, draw: int, count: int, dtype: torch.dtype) -> Tensor:
    """[b, count] standard normal, by inversion of one word each (so |z| < 6.4)."""
    words = random_words(seed, ids, draw, count)
    return torch.special.ndtri((words.double() + 0.5) * 2.0**-32).to(dtype)
