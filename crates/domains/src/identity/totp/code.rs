//! Codes of an authenticator (RFC 6238, HMAC-SHA-1, 6 digits, 30 s), as every authenticator app makes them.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Seconds of one step.
const STEP_S: i64 = 30;
/// Steps by which a phone's clock may be off, before and after.
const STEPS_OFF: i64 = 1;
const DIGITS: usize = 6;

/// The step in which this code is right, seen from a time in seconds; the latest if there are two.
pub(super) fn step_of(secret: &[u8], code: &str, now_s: i64) -> Option<i64> {
    let now = now_s.div_euclid(STEP_S);
    let steps = (now - STEPS_OFF..=now + STEPS_OFF).rev();
    let mut fitting = steps.filter(|step| {
        subtle::ConstantTimeEq::ct_eq(of_step(secret, *step).as_bytes(), code.as_bytes()).into()
    });
    fitting.next()
}

/// RFC 4226, section 5.3.
fn of_step(secret: &[u8], step: i64) -> String {
    // HMAC takes a key of any length, so this never fails; no code is empty.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else { return String::new() };
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 0xf);
    let number = digest[offset..offset + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:0DIGITS$}", (number & 0x7fff_ffff) % 10_u32.pow(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: its last six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(of_step(secret, time / STEP_S), code);
            for (off, fits) in [(0, true), (-30, true), (30, true), (-60, false), (60, false)] {
                assert_eq!(step_of(secret, code, time + off), fits.then_some(time / STEP_S), "{time} {off}");
            }
        }
        for bad in ["", "28708", "2870820", "x87082", "287083"] {
            assert_eq!(step_of(secret, bad, 59), None, "{bad}");
        }
    }
}
