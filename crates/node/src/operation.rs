//! From what a client sent to what the tree is asked to do.

use ostler_tree::{Operation, ReconfigRequest};
use ostler_wire::multi::WriteOp;
use ostler_wire::{Create, CreateForm, Request};

/// The tree's view of a write request; nothing for any other request.
pub(crate) fn to_operation<'r>(request: &'r Request<'_>) -> Option<Operation<'r>> {
    Some(match request {
        Request::Create(create) => to_create(create),
        Request::Delete { path, version } => Operation::Delete { path, version: *version },
        Request::SetData { path, data, version } => {
            Operation::SetData { path, data: *data, version: *version }
        }
        Request::SetAcl { path, acl, version } => {
            Operation::SetAcl { path, acl: to_acl(acl.as_deref()), version: *version }
        }
        Request::Multi(ops) => Operation::Multi(ops.iter().map(to_sub_operation).collect()),
        Request::Reconfig { joining, leaving, new_members, config_id } => {
            Operation::Reconfig(ReconfigRequest {
                joining: joining.as_deref(),
                leaving: leaving.as_deref(),
                new_members: new_members.as_deref(),
                config_version: *config_id,
            })
        }
        _ => return None,
    })
}

fn to_sub_operation<'r>(op: &'r WriteOp<'_>) -> Operation<'r> {
    match op {
        WriteOp::Create(create) => to_create(create),
        WriteOp::Delete { path, version } => Operation::Delete { path, version: *version },
        WriteOp::SetData { path, data, version } => {
            Operation::SetData { path, data: *data, version: *version }
        }
        WriteOp::Check { path, version } => Operation::Check { path, version: *version },
    }
}

fn to_create<'r>(create: &'r Create<'_>) -> Operation<'r> {
    Operation::Create {
        path: &create.path,
        data: create.data,
        acl: to_acl(create.acl.as_deref()),
        flags: create.flags,
        kind: create.form.kind(),
        want_stat: create.form != CreateForm::Create,
    }
}

fn to_acl<'r>(acl: Option<&'r [ostler_wire::AclEntry<'_>]>) -> Option<Vec<ostler_tree::AclEntry<'r>>> {
    let to_entry = |entry: &'r ostler_wire::AclEntry<'_>| ostler_tree::AclEntry {
        perms: entry.perms,
        scheme: entry.scheme.as_deref(),
        id: entry.id.as_deref(),
    };
    acl.map(|entries| entries.iter().map(to_entry).collect())
}
