//! Registered memory of a software device, and the checks an adapter makes on every access to it.

use slab::Slab;

use crate::verbs::{Access, Pd, Region, Sge, Status, VerbsError};

/// Between two regions lies this much address space that belongs to nobody.
const GUARD_BYTES: u64 = 1 << 16;
const REGION_BYTES_MAX: u32 = 1 << 30;

struct Registered {
    pd: Pd,
    region: Region,
    access: Access,
    bytes: Vec<u8>,
}

/// Protection domains and regions of one device.
pub(super) struct Regions {
    pds: Slab<u32>,
    regions: Slab<Registered>,
    next_address: u64,
    salt: u32,
    pub(super) registered_bytes: usize,
    /// Registering beyond this fails, as with a small memlock limit.
    pub(super) limit_bytes: usize,
}

impl Regions {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Regions {
            pds: Slab::new(),
            regions: Slab::new(),
            next_address: 0x7000_0000_0000,
            salt: 0,
            registered_bytes: 0,
            limit_bytes,
        }
    }

    pub(super) fn pds(&self) -> usize {
        self.pds.len()
    }

    pub(super) fn regions(&self) -> usize {
        self.regions.len()
    }

    pub(super) fn alloc_pd(&mut self) -> Pd {
        Pd(self.pds.insert(0) as u32)
    }

    /// Counts a user of a domain: a region or a queue pair.
    pub(super) fn use_pd(&mut self, pd: Pd) -> Result<(), VerbsError> {
        *self.pds.get_mut(pd.0 as usize).ok_or(VerbsError::Unknown("protection domain"))? += 1;
        Ok(())
    }

    pub(super) fn release_pd(&mut self, pd: Pd) {
        if let Some(users) = self.pds.get_mut(pd.0 as usize) {
            *users -= 1;
        }
    }

    pub(super) fn dealloc_pd(&mut self, pd: Pd) -> Result<(), VerbsError> {
        match self.pds.get(pd.0 as usize) {
            None => Err(VerbsError::Unknown("protection domain")),
            Some(0) => {
                self.pds.remove(pd.0 as usize);
                Ok(())
            }
            Some(_) => Err(VerbsError::State),
        }
    }

    pub(super) fn register(&mut self, pd: Pd, length: u32, access: Access) -> Result<Region, VerbsError> {
        if length == 0 || length > REGION_BYTES_MAX || self.registered_bytes + length as usize > self.limit_bytes {
            return Err(VerbsError::Memory(length));
        }
        self.use_pd(pd)?;
        let entry = self.regions.vacant_entry();
        self.salt = self.salt.wrapping_add(0x35);
        let region = Region {
            id: entry.key() as u32,
            address: self.next_address,
            length,
            rkey: (entry.key() as u32) << 8 | (self.salt & 0xff),
        };
        entry.insert(Registered { pd, region, access, bytes: vec![0; length as usize] });
        self.next_address += (u64::from(length) + GUARD_BYTES).next_multiple_of(4096);
        self.registered_bytes += length as usize;
        Ok(region)
    }

    pub(super) fn deregister(&mut self, region: Region) -> Result<(), VerbsError> {
        self.find(region)?;
        let gone = self.regions.remove(region.id as usize);
        self.registered_bytes -= gone.bytes.len();
        self.release_pd(gone.pd);
        Ok(())
    }

    fn find(&self, region: Region) -> Result<&Registered, VerbsError> {
        self.regions.get(region.id as usize).filter(|found| found.region == region).ok_or(VerbsError::Unknown("region"))
    }

    /// What the device's user borrows: nothing that the peer may write to.
    pub(super) fn bytes(&self, region: Region, offset: u32, length: u32) -> Result<&[u8], VerbsError> {
        self.check_local(region)?;
        self.piece(region, offset, length)
    }

    pub(super) fn bytes_mut(&mut self, region: Region, offset: u32, length: u32) -> Result<&mut [u8], VerbsError> {
        self.check_local(region)?;
        self.piece_mut(region, offset, length)
    }

    fn check_local(&self, region: Region) -> Result<(), VerbsError> {
        match self.find(region)?.access {
            Access::Local => Ok(()),
            Access::RemoteWrite => Err(VerbsError::PeerMayWrite),
        }
    }

    /// Bytes of any region, as the device itself reaches them.
    pub(super) fn piece(&self, region: Region, offset: u32, length: u32) -> Result<&[u8], VerbsError> {
        let out = VerbsError::Range { offset, length };
        let end = offset.checked_add(length).ok_or(out.clone())?;
        self.find(region)?.bytes.get(offset as usize..end as usize).ok_or(out)
    }

    pub(super) fn piece_mut(&mut self, region: Region, offset: u32, length: u32) -> Result<&mut [u8], VerbsError> {
        let out = VerbsError::Range { offset, length };
        let end = offset.checked_add(length).ok_or(out.clone())?;
        self.find(region)?;
        self.regions[region.id as usize].bytes.get_mut(offset as usize..end as usize).ok_or(out)
    }

    /// The bytes of a work request of a queue pair in `pd`.
    pub(super) fn local(&self, pd: Pd, sge: Sge) -> Result<&[u8], Status> {
        self.find(sge.region).ok().filter(|found| found.pd == pd).ok_or(Status::LocalProtection)?;
        self.piece(sge.region, sge.offset, sge.length).map_err(|_| Status::LocalProtection)
    }

    /// Fills a receive.
    pub(super) fn fill(&mut self, pd: Pd, sge: Sge, payload: &[u8]) -> Result<(), Status> {
        self.local(pd, sge)?;
        if payload.len() > sge.length as usize {
            return Err(Status::LocalLength);
        }
        let into = self.piece_mut(sge.region, sge.offset, payload.len() as u32).map_err(|_| Status::LocalProtection)?;
        into.copy_from_slice(payload);
        Ok(())
    }

    /// A write from the other side into memory of `pd`. A write of nothing needs no memory.
    pub(super) fn remote_write(&mut self, pd: Pd, address: u64, rkey: u32, payload: &[u8]) -> Result<(), Status> {
        if payload.is_empty() {
            return Ok(());
        }
        let found =
            self.regions.get_mut((rkey >> 8) as usize).filter(|found| found.region.rkey == rkey && found.pd == pd);
        let found = found.filter(|found| found.access == Access::RemoteWrite).ok_or(Status::RemoteAccess)?;
        let offset = address.checked_sub(found.region.address).ok_or(Status::RemoteAccess)?;
        let end = offset
            .checked_add(payload.len() as u64)
            .filter(|end| *end <= found.bytes.len() as u64)
            .ok_or(Status::RemoteAccess)?;
        found.bytes[offset as usize..end as usize].copy_from_slice(payload);
        Ok(())
    }
}
