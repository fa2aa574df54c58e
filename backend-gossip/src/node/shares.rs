//! Memory that clients make the node keep: bounded for all together and for each party, so that many who keep much
//! leave room for those who keep little.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::addresses::Party;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// By all parties together, beyond what each always has.
    pub(crate) total: usize,
    /// By one party.
    pub(crate) each: usize,
    /// What a party has in any case. It counts for the party alone, so that those who fill the rest shut nobody out.
    pub(crate) always: usize,
}

/// What all parties keep.
#[derive(Debug)]
pub(crate) struct Shares {
    bounds: Bounds,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    total: usize,
    each: HashMap<Party, usize>,
}

/// Why nothing more is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The party has its share.
    Party,
    /// The node has no more.
    Node,
}

/// A part of what a party keeps. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    shares: Arc<Shares>,
    party: Party,
    amount: usize,
}

impl Shares {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, table: Mutex::default() })
    }

    /// Takes a part, which can grow.
    ///
    /// # Errors
    /// Where there is not so much left.
    pub(crate) fn claim(self: &Arc<Self>, party: Party, amount: usize) -> Result<Claim, Full> {
        let mut claim = Claim { shares: Arc::clone(self), party, amount: 0 };
        claim.grow(amount).map(|()| claim)
    }

    /// How much all parties keep.
    pub(crate) fn kept(&self) -> usize {
        self.lock().each.values().sum()
    }

    fn change(&self, party: Party, change: impl FnOnce(usize) -> usize) -> Result<(), Full> {
        let mut guard = self.lock();
        let table = &mut *guard;
        let before = table.each.get(&party).copied().unwrap_or_default();
        let after = change(before);
        let beyond = |amount: usize| amount.saturating_sub(self.bounds.always);
        let total = table.total - beyond(before) + beyond(after);
        // Whatever the bounds are, each has what it always has.
        if after > before && after > self.bounds.each.max(self.bounds.always) {
            return Err(Full::Party);
        }
        if total > table.total && total > self.bounds.total {
            return Err(Full::Node);
        }
        table.total = total;
        if after == 0 {
            table.each.remove(&party);
        } else {
            table.each.insert(party, after);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Takes so much more.
    ///
    /// # Errors
    /// Where there is not so much left; what was taken before stays.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Full> {
        self.shares.change(self.party, |amount| amount.saturating_add(more))?;
        self.amount += more;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // To give back is always possible.
        let _done = self.shares.change(self.party, |amount| amount - self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { total: 100, each: 80, always: 10 };

    #[test]
    fn each_party_and_all_together_are_bounded() {
        let shares = Shares::new(BOUNDS);
        let (ada, bob) = (Party::Connection(1), Party::Connection(2));
        let mut claim = shares.claim(ada, 70).expect("fits");
        assert_eq!(claim.grow(11), Err(Full::Party));
        assert_eq!(shares.claim(ada, 11).expect_err("its share"), Full::Party);
        claim.grow(10).expect("fits");
        assert_eq!(shares.claim(bob, 41).expect_err("70 beyond the first ten are taken"), Full::Node);
        let other = shares.claim(bob, 40).expect("fits");
        let _small = shares.claim(Party::Connection(3), 10).expect("is always there");
        assert_eq!(shares.claim(Party::Connection(4), 11).expect_err("the node is full"), Full::Node);
        drop((claim, other));
        let table = shares.lock();
        assert_eq!((table.total, table.each.len()), (0, 1));
        drop(table);
        shares.claim(bob, 80).expect("there is room again");
    }
}
