//! The allocator's size classes, computed. Entries are allocated in whole classes, so that a value may
//! change its length within the class without an allocation, and a freed entry's layout follows from
//! its present size.

/// Entries are aligned to this, which leaves the table four spare bits in each pointer.
pub(crate) const ENTRY_ALIGN: usize = 16;

/// The size in bytes jemalloc gives for a request of `size` bytes aligned to 16: multiples of 16 up
/// to 128, then four classes to each doubling.
#[inline]
pub(crate) const fn class_of(size: usize) -> usize {
    if size <= 128 {
        return if size == 0 { ENTRY_ALIGN } else { (size + 15) & !15 };
    }
    let spacing = 1usize << ((size - 1).ilog2() - 2);
    (size + spacing - 1) & !(spacing - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_those_of_the_allocator() {
        let classes = [
            (0, 16),
            (1, 16),
            (16, 16),
            (17, 32),
            (88, 96),
            (97, 112),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (193, 224),
            (225, 256),
            (257, 320),
            (513, 640),
            (1025, 1280),
            (1040, 1280),
            (4097, 5120),
            (16384, 16384),
            (16385, 20480),
            (70000, 81920),
        ];
        for (size, class) in classes {
            assert_eq!(class_of(size), class, "size {size}");
            assert_eq!(class_of(class), class, "a class is its own class");
        }
    }
}
