"""Seasons and trends: what a VM is about to use, where its past days and weeks tell.

A season is believed only where the series repeats itself: the correlation of the hours with the
hours a day (or a week) before must be larger than chance gives, and large enough to be of use.
All functions take hourly series, (T, N): one row an hour, NaN where nothing is known.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from balancer.demand.readings import HOUR_S, Floats, Readings

DAY_H, WEEK_H = 24, 168
DAYS_MIN = 3  # of a daily season; two weeks of a weekly one
CORRELATION_MIN = 0.5  # below, the season explains less than a quarter of what the VM does
TINY = 1e-12  # of a spread: a VM that always uses the same
SIGMAS = 3.0  # of the correlation that noise of this length has
TREND_DAYS_MIN = 7
TREND_Z = 2.58  # of the Mann-Kendall statistic: one in a hundred by chance

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Seasons:
    """What repeats itself in the use of N VMs.

    Attributes:
        period_h: (N,) hours after which it repeats: 24, 168, or 0 for no season.
        profile: (168, N) mean by hour of the week, counted from the epoch; of a daily season
            the day seven times over.
        slope_per_s: (N,) trend of the daily means; 0 where there is none.
        hourly: The hours that this is from.
    """

    vms: tuple[str, ...]
    period_h: npt.NDArray[np.int64]
    profile: Floats
    slope_per_s: Floats
    hourly: Readings

    def columns(self, vms: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """Return the columns of `vms`, in their order; -1 for one that was never read."""
        known = self.hourly.column
        return np.array([known.get(vm, -1) for vm in vms], dtype=np.int64)

    def repeats(self, vms: tuple[str, ...]) -> Bools:
        """Return which of `vms` have a season."""
        column = self.columns(vms)
        if not len(self.vms):
            return np.zeros(len(vms), dtype=bool)
        return (column >= 0) & (self.period_h[column] > 0)

    def at(self, hours: npt.NDArray[np.int64]) -> Floats:
        """Return the (len(hours), N) profile at hours since 1970."""
        return self.profile[hours % WEEK_H]


def seasons(hourly: Readings) -> Seasons:
    """Look for a weekly season, else a daily one, and for a trend, in each VM's hours."""
    work, count = hourly.work, len(hourly.vms)
    first = int(hourly.at_s[0] // HOUR_S) if len(hourly.at_s) else 0
    phase = (first + np.arange(len(work))) % WEEK_H
    period = np.zeros(count, dtype=np.int64)
    profile = np.zeros((WEEK_H, count))
    if len(work) >= DAYS_MIN * DAY_H:
        daily, of_day = _repeats(work, DAY_H)
        period[daily] = DAY_H
        by_hour = _profile(work, phase % DAY_H, DAY_H)
        profile[:, daily] = np.tile(by_hour, (WEEK_H // DAY_H, 1))[:, daily]
        if len(work) >= 2 * WEEK_H:
            weekly, of_week = _repeats(work, WEEK_H)
            weekly &= of_week > of_day
            period[weekly] = WEEK_H
            profile[:, weekly] = _profile(work, phase, WEEK_H)[:, weekly]
    profile = np.where(np.isnan(profile), 0.0, profile)
    return Seasons(hourly.vms, period, profile, _slopes(work, phase), hourly)


def persistence(hourly: Readings, lag_h: int) -> Floats:
    """Return (N,) how much of a deviation from the usual is left after `lag_h` hours, 0..1.

    1 where there are too few days to tell: then what is seen now is all there is to go by.
    """
    if len(hourly.work) < DAYS_MIN * DAY_H:
        return np.ones(len(hourly.vms))
    count, like = _alike(hourly.work, max(1, lag_h))
    kept: Floats = np.where(count >= (DAYS_MIN - 1) * DAY_H, np.clip(like, 0.0, 1.0), 1.0)
    return kept


def _repeats(work: Floats, lag: int) -> tuple[Bools, Floats]:
    """Return which series resemble themselves `lag` hours before, and how much."""
    count, like = _alike(work, lag)
    least = np.maximum(CORRELATION_MIN, SIGMAS / np.sqrt(np.maximum(1, count)))
    return (count >= lag) & (like > least), like


def _alike(work: Floats, lag: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return how many pairs of hours `lag` apart are known, and their correlation."""
    now, before = work[lag:], work[:-lag]
    known = ~(np.isnan(now) | np.isnan(before))
    count = known.sum(axis=0)
    mean_now, mean_before = _mean_where(now, known), _mean_where(before, known)
    a = np.where(known, now - mean_now, 0.0)
    b = np.where(known, before - mean_before, 0.0)
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    like = np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > TINY)
    return count, like


def _mean_where(values: Floats, known: Bools) -> Floats:
    total = np.where(known, values, 0.0).sum(axis=0)
    mean: Floats = total / np.maximum(1, known.sum(axis=0))
    return mean


def _profile(work: Floats, phase: npt.NDArray[np.int64], period: int) -> Floats:
    """Return the (period, N) medians by phase: one odd day does not make a season."""
    rows = [work[phase == at] for at in range(period)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a phase that was never read is NaN
        return np.array([np.nanmedian(one, axis=0) for one in rows])


def _slopes(work: Floats, phase: npt.NDArray[np.int64]) -> Floats:
    """Return the median slope between daily means, where Mann-Kendall's test finds a trend."""
    start = int(-phase[0] % DAY_H) if len(phase) else 0
    days = (len(work) - start) // DAY_H
    none = np.zeros(work.shape[1])
    if days < TREND_DAYS_MIN:
        return none
    whole = work[start : start + days * DAY_H].reshape(days, DAY_H, -1)
    if np.isnan(whole).any(axis=(0, 1)).all():
        return none
    means = whole.mean(axis=1)
    later, earlier = np.triu_indices(days, 1)[::-1]
    steps = means[later] - means[earlier]
    statistic = np.sign(steps).sum(axis=0)
    spread = np.sqrt(days * (days - 1) * (2 * days + 5) / 18)
    sure = np.abs(statistic) / spread > TREND_Z
    slope = np.zeros(work.shape[1])
    if sure.any():
        slope[sure] = np.median(steps[:, sure] / (later - earlier)[:, None], axis=0)
    return slope / (DAY_H * HOUR_S)
