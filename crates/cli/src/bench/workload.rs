//! Requests, encoded beforehand: what differs from one to the next is patched in.

use ostler_types::{Xid, open_acl};
use ostler_wire::{AclEntry, Create, CreateForm, Request};

use super::mix::Operation;

/// Digits of a znode's number, a session's and that of a znode it creates.
const ZNODE_DIGITS: usize = 7;
const SESSION_DIGITS: usize = 5;
const CREATED_DIGITS: usize = 9;

/// The znode that get and set use as number `number`.
pub(super) fn znode_path(root: &str, number: u32) -> String {
    format!("{root}/n{number:0width$}", width = ZNODE_DIGITS)
}

/// Whether a child of the root is the parent of what a session creates.
pub(super) fn is_session_znode(name: &str) -> bool {
    name.starts_with('s')
}

/// The parent of what session `session` creates.
pub(super) fn session_path(root: &str, session: u32) -> String {
    format!("{root}/s{session:0width$}", width = SESSION_DIGITS)
}

fn created_path(root: &str, session: u32, number: u32) -> String {
    format!("{}/c{number:0width$}", session_path(root, session), width = CREATED_DIGITS)
}

/// Data of `len` bytes that does not compress, the same every time (xorshift64).
pub(super) fn value(len: u32) -> Vec<u8> {
    let mut random = Random::new(u64::MAX);
    (0..len).map(|_| (random.next() >> 32) as u8).collect()
}

/// Frames for every operation.
pub(super) struct Workload {
    get: Template,
    set: Template,
    create: Template,
}

struct Template {
    frame: Vec<u8>,
    path_end: usize,
}

impl Template {
    fn new(path: &str, request: &Request<'_>) -> Self {
        let mut frame = Vec::new();
        request.encode(Xid(0), &mut frame);
        // Length, xid, opcode, length of the path, path.
        Template { path_end: 16 + path.len(), frame }
    }

    /// Appends the frame and returns it without its body's rest: header and path.
    fn append<'o>(&self, xid: i32, out: &'o mut Vec<u8>) -> &'o mut [u8] {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let head = &mut out[start..start + self.path_end];
        head[4..8].copy_from_slice(&xid.to_be_bytes());
        head
    }
}

impl Workload {
    pub(super) fn new(root: &str, value_bytes: u32) -> Self {
        let value = value(value_bytes);
        let path = znode_path(root, 0);
        let get = Template::new(&path, &Request::GetData { path: (&path).into(), watch: false });
        let set = Request::SetData { path: (&path).into(), data: Some(&value), version: -1 };
        let set = Template::new(&path, &set);
        let path = created_path(root, 0, 0);
        let acl = open_acl();
        let create = Request::Create(Create {
            form: CreateForm::Create,
            path: (&path).into(),
            data: Some(&value),
            acl: Some(acl.iter().map(AclEntry::from).collect()),
            flags: 0,
        });
        Workload { get, set, create: Template::new(&path, &create) }
    }

    /// Appends a request by `session`: of znode `number`, or creating its own znode `number`.
    pub(super) fn append(
        &self,
        operation: Operation,
        xid: i32,
        session: u32,
        number: u32,
        out: &mut Vec<u8>,
    ) {
        let template = match operation {
            Operation::Get => &self.get,
            Operation::Set => &self.set,
            Operation::Create => &self.create,
        };
        let head = template.append(xid, out);
        let end = head.len();
        match operation {
            Operation::Get | Operation::Set => put_digits(&mut head[end - ZNODE_DIGITS..], number),
            Operation::Create => {
                put_digits(&mut head[end - CREATED_DIGITS..], number);
                // "/c" stands between the two.
                let session_end = end - CREATED_DIGITS - 2;
                put_digits(&mut head[session_end - SESSION_DIGITS..session_end], session);
            }
        }
    }
}

fn put_digits(slot: &mut [u8], mut number: u32) {
    for digit in slot.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Xorshift64: fast, and good enough to spread requests over znodes.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from((self.next() >> 32) as u32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_wire::{Limits, OpCode, RequestHeader};

    #[test]
    fn patched_frames_are_the_requests_they_should_be() {
        let workload = Workload::new("/bench", 3);
        let data = value(3);
        let acl = open_acl();
        let acl: Vec<_> = acl.iter().map(AclEntry::from).collect();
        let mut out = Vec::new();
        for (operation, expected) in [
            (Operation::Get, Request::GetData { path: "/bench/n0000042".into(), watch: false }),
            (
                Operation::Set,
                Request::SetData { path: "/bench/n0000042".into(), data: Some(&data), version: -1 },
            ),
            (
                Operation::Create,
                Request::Create(Create {
                    form: CreateForm::Create,
                    path: "/bench/s00017/c000000042".into(),
                    data: Some(&data),
                    acl: Some(acl),
                    flags: 0,
                }),
            ),
        ] {
            out.clear();
            workload.append(operation, 9, 17, 42, &mut out);
            let (header, body) = RequestHeader::decode(&out[4..]).unwrap();
            assert_eq!(header.xid, Xid(9));
            let op = OpCode::from_code(header.op).unwrap();
            assert_eq!(Request::decode(op, body, Limits::default()), Ok(expected));
        }
    }

    #[test]
    fn random_numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(0);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
