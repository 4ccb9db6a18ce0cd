//! Percent-encoding of queries.

/// Undoes percent-encoding and `+`; what is none stays as it is, and what is not UTF-8 is replaced.
pub(crate) fn decode(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let encoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match (first, encoded) {
            (_, Some((high, low))) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            (b'+', None) => out.push(b' '),
            (_, None) => out.push(*first),
        }
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16)?.try_into().ok()
}
