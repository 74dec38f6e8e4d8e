//! Steps down in size: of each set those that lose least for the bytes they save, all sets in one order.

/// What a choice costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) bytes: u64,
    /// Noise over signal of each weight, times its elements; infinite where it cannot be had.
    pub(super) error: f64,
}

/// A step of one set to its next smaller choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) set: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    /// Error that is added for each byte that is saved.
    slope: f64,
}

/// Returns the numbers of the choices on the lower convex hull of bytes and error, from the one that loses least to the
/// smallest.
pub(super) fn hull(costs: &[Cost]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).filter(|&at| costs[at].error.is_finite()).collect();
    order.sort_by(|&a, &b| costs[a].error.total_cmp(&costs[b].error).then(costs[a].bytes.cmp(&costs[b].bytes)));
    let Some(&best) = order.first() else { return Vec::new() };
    order.retain(|&at| at == best || costs[at].bytes < costs[best].bytes);
    order.sort_by(|&a, &b| costs[b].bytes.cmp(&costs[a].bytes).then(costs[a].error.total_cmp(&costs[b].error)));
    order.dedup_by_key(|at| costs[*at].bytes);
    let mut hull: Vec<usize> = Vec::new();
    for at in order {
        while let [.., before, last] = hull[..] {
            if slope(costs[before], costs[last]) < slope(costs[last], costs[at]) {
                break;
            }
            hull.pop();
        }
        hull.push(at);
    }
    hull
}

/// Returns the steps of all sets, given the hull and the costs of each, in the order of the error that a saved byte adds.
/// The steps of a set stand in their own order.
pub(super) fn merged<'a>(sets: impl Iterator<Item = (&'a [usize], Vec<Cost>)>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (set, (hull, costs)) in sets.enumerate() {
        let pairs = hull.windows(2).map(|pair| (pair[0], pair[1]));
        steps.extend(pairs.map(|(from, to)| Step { set, from, to, slope: slope(costs[from], costs[to]) }));
    }
    // A stable sort: slopes of a set rise from step to step.
    steps.sort_by(|a, b| a.slope.total_cmp(&b.slope));
    steps
}

fn slope(from: Cost, to: Cost) -> f64 {
    (to.error - from.error) / from.bytes.saturating_sub(to.bytes) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(of: &[(u64, f64)]) -> Vec<Cost> {
        of.iter().map(|&(bytes, error)| Cost { bytes, error }).collect()
    }

    #[test]
    fn only_what_loses_least_for_its_size_is_on_the_hull() {
        // Unquantized; as large and worse; on the hull; above it; on it; larger and worse than a smaller one; unusable.
        let of = costs(&[(100, 0.0), (100, 1.0), (60, 1.0), (55, 6.0), (30, 8.0), (40, 9.0), (10, f64::INFINITY)]);
        assert_eq!(hull(&of), [0, 2, 4]);
        // What loses nothing and is smaller takes the place of the source.
        assert_eq!(hull(&costs(&[(100, 0.0), (50, 0.0), (25, 1.0)])), [1, 2]);
        // The smallest may be the one to begin with.
        assert_eq!(hull(&costs(&[(100, 3.0), (50, 2.0)])), [1]);
        assert_eq!(hull(&[]), [0; 0]);
    }

    #[test]
    fn steps_of_all_sets_come_by_their_price() {
        let (a, b) = (costs(&[(100, 0.0), (50, 1.0), (25, 10.0)]), costs(&[(80, 0.0), (40, 4.0)]));
        let hulls = [hull(&a), hull(&b)];
        let steps = merged([(&hulls[0][..], a), (&hulls[1][..], b)].into_iter());
        let order: Vec<_> = steps.iter().map(|step| (step.set, step.from, step.to)).collect();
        assert_eq!(order, [(0, 0, 1), (1, 0, 1), (0, 1, 2)]);
    }
}
