"""L-BFGS on many small problems at once (Nocedal & Wright, 2006, algorithm 7.4), each with its own history and step length."""

from __future__ import annotations

from collections.abc import Callable

import torch

Objective = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
HISTORY = 10
SUFFICIENT = 1e-4  # Armijo's share of the decrease that the slope promises
HALVINGS = 12


def minimise(
    objective: Objective, start: torch.Tensor, iterations: int, tolerance: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise independent problems that lie along the leading axes.

    Args:
        objective: (…, d) points → (…,) losses and (…, d) gradients.
        start: (…, d) first points.
        iterations: most steps.
        tolerance: a problem rests once its largest gradient entry is below this.

    Returns:
        (…, d) points and (…,) losses, never above those of the start.
    """
    x = start.clone()
    loss, gradient = objective(x)
    steps: list[torch.Tensor] = []
    changes: list[torch.Tensor] = []
    for _ in range(iterations):
        active = gradient.abs().amax(-1) > tolerance
        if not active.any():
            break
        direction = -_two_loops(gradient, steps, changes)
        slope = (direction * gradient).sum(-1)
        # Where curvature misled, fall back to the gradient.
        uphill = slope >= 0
        direction = torch.where(uphill[..., None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(-1), slope)
        length = torch.ones_like(loss)
        if not steps:
            length = (1 / gradient.abs().sum(-1).clamp(min=1e-12)).clamp(max=1.0)
        done = ~active
        new_x, new_loss, new_gradient = x, loss, gradient
        for _ in range(HALVINGS):
            trial = torch.where(done[..., None], new_x, x + length[..., None] * direction)
            trial_loss, trial_gradient = objective(trial)
            good = ~done & (trial_loss <= loss + SUFFICIENT * length * slope)
            new_x = torch.where(good[..., None], trial, new_x)
            new_loss = torch.where(good, trial_loss, new_loss)
            new_gradient = torch.where(good[..., None], trial_gradient, new_gradient)
            done = done | good
            if done.all():
                break
            length = torch.where(done, length, length / 2)
        step, change = new_x - x, new_gradient - gradient
        moved = step.abs().amax(-1) > 0
        if not moved.any():
            break
        steps, changes = [*steps, step][-HISTORY:], [*changes, change][-HISTORY:]
        gained = (loss - new_loss) > 1e-9 * loss.abs().clamp(min=1e-12)
        x, loss = new_x, new_loss
        # A problem that no longer gains is put to rest by a gradient of zero.
        gradient = torch.where((gained & moved)[..., None], new_gradient, torch.zeros_like(new_gradient))
    return x, loss


def _two_loops(gradient: torch.Tensor, steps: list[torch.Tensor], changes: list[torch.Tensor]) -> torch.Tensor:
    """The inverse Hessian's product with the gradient; pairs without positive curvature count as absent, problem by problem."""
    q = gradient
    kept = []
    for step, change in zip(reversed(steps), reversed(changes), strict=True):
        curvature = (step * change).sum(-1, keepdim=True)
        usable = curvature > 1e-12
        rho = torch.where(usable, 1 / curvature.clamp(min=1e-12), torch.zeros_like(curvature))
        alpha = rho * (step * q).sum(-1, keepdim=True)
        q = q - alpha * change
        kept.append((step, change, rho, alpha))
    if steps:
        square = changes[-1].square().sum(-1, keepdim=True)
        curvature = (steps[-1] * changes[-1]).sum(-1, keepdim=True)
        q = q * torch.where(curvature > 1e-12, curvature / square.clamp(min=1e-12), torch.ones_like(curvature))
    for step, change, rho, alpha in reversed(kept):
        beta = rho * (change * q).sum(-1, keepdim=True)
        q = q + step * (alpha - beta)
    return q
