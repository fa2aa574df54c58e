#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    talkbox_backend_ipfs::fuzzing::request(bytes);
});
