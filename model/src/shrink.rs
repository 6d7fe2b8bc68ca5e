//! The shortest list that still fails.

/// Takes parts out of `list` as long as `fails` says that the rest still fails, and asks it `tries_max` times at most:
/// halves first, single ones last.
pub fn shrink<T: Clone>(list: Vec<T>, tries_max: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let (mut list, mut tries) = (list, 0);
    let mut size = list.len().div_ceil(2);
    while size > 0 {
        let (mut at, mut shorter) = (0, false);
        while at < list.len() {
            if tries == tries_max {
                return list;
            }
            tries += 1;
            let rest: Vec<T> = list.iter().take(at).chain(list.iter().skip(at + size)).cloned().collect();
            if fails(&rest) {
                list = rest;
                shorter = true;
            } else {
                at += size;
            }
        }
        if !shorter || size > 1 {
            size /= 2;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let list: Vec<u32> = (0..100).collect();
        let mut asked = 0;
        let short = shrink(list, 1000, |rest| {
            asked += 1;
            rest.contains(&17) && rest.contains(&80)
        });
        assert_eq!(short, [17, 80]);
        assert!(asked < 200, "{asked}");
    }

    #[test]
    fn it_ends_when_it_was_told() {
        assert_eq!(shrink(vec![1, 2, 3, 4], 1, |_| false).len(), 4);
    }
}
