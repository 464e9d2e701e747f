//! What was meant by a name that is not known.

/// Longer names are not compared: nobody mistypes that much.
const NAME_CHARS_MAX: usize = 64;

/// The candidate that differs the least, if it differs little.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    if name.chars().count() > NAME_CHARS_MAX {
        return None;
    }
    let enough = (name.chars().count() / 3).max(1);
    let candidates = candidates.into_iter();
    let measured = candidates.map(|candidate| (distance(&name, candidate), candidate));
    let (distance, candidate) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= enough).then_some(candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_if_one_is_near() {
        let names = ["max_msgs", "max_bytes", "cluster_id", "store"];
        for (typed, meant) in [
            ("max_mgs", Some("max_msgs")),
            ("MAX_MSSG", Some("max_msgs")),
            ("clusterid", Some("cluster_id")),
            ("stroe", Some("store")),
            ("port", None),
            ("something_else", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(1000), names), None);
    }
}
