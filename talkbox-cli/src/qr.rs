//! QR codes in half blocks, two modules to a character.

use qrcode::{Color, EcLevel, QrCode};

use crate::exit::{Failure, Outcome};

/// Modules of the margin: four is what the standard asks for, so that a scanner finds the corners.
const MARGIN: usize = 4;

/// The code in lines of half blocks, dark on light on a terminal that writes light on dark: the light modules are
/// drawn. With `inverted`, the dark ones are, for a terminal that writes dark on light.
///
/// # Errors
/// Where the text is longer than a QR code holds.
pub(crate) fn lines(text: &str, inverted: bool) -> Outcome<Vec<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|_| Failure::input("this is longer than a QR code holds"))?;
    let (width, modules) = (code.width(), code.to_colors());
    let drawn = |x: usize, y: usize| {
        let inside = (MARGIN..MARGIN + width).contains(&x) && (MARGIN..MARGIN + width).contains(&y);
        let dark = inside && modules[(y - MARGIN) * width + (x - MARGIN)] == Color::Dark;
        dark == inverted
    };
    let side = width + 2 * MARGIN;
    let line = |top: usize| -> String {
        let half = |x: usize| match (drawn(x, top), top + 1 < side && drawn(x, top + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        (0..side).map(half).collect()
    };
    Ok((0..side).step_by(2).map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the modules back, and compares them with those of the library.
    #[test]
    fn every_module_is_where_it_belongs() {
        for text in
            ["TALKBOX:F12TWYXSDNW8QCK54PDT", "nostr:npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d"]
        {
            let code = QrCode::with_error_correction_level(text, EcLevel::L).expect("fits");
            let (width, modules) = (code.width(), code.to_colors());
            for inverted in [false, true] {
                let lines = lines(text, inverted).expect("fits");
                assert_eq!(lines.len(), (width + 2 * MARGIN).div_ceil(2));
                for (at, color) in modules.iter().enumerate() {
                    let (x, y) = (at % width + MARGIN, at / width + MARGIN);
                    let half = lines[y / 2].chars().nth(x).expect("a full line");
                    let drawn = if y % 2 == 0 { matches!(half, '█' | '▀') } else { matches!(half, '█' | '▄') };
                    assert_eq!(drawn, (*color == Color::Dark) == inverted);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(lines(&"x".repeat(3000), false).is_err());
    }
}
