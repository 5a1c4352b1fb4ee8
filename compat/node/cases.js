'use strict';

const {connect, control, fails, gone, number, retry, same, watcher, zookeeper, SERVER, PROXY} = require('./main.js');
const {ACL, CreateMode, Id, Permission} = zookeeper;

// The package refuses to send more; with its header this is just over the server's limit of 0xfffff bytes.
const OVERSIZED = Buffer.alloc(1 << 20);

const cases = module.exports = {};

cases.create_and_read = async (root) => {
    const c = await connect();
    same('path', await c.create(`${root}/a`, Buffer.from('value')), `${root}/a`);
    const [data, stat] = await c.getData(`${root}/a`);
    same('data', data.toString(), 'value');
    same('stat', [stat.version, stat.cversion, stat.aversion, stat.dataLength, stat.numChildren], [0, 0, 0, 5, 0]);
    same('mzxid', number(stat.mzxid), number(stat.czxid));
    same('pzxid', number(stat.pzxid), number(stat.czxid));
    same('owner', number(stat.ephemeralOwner), 0);
    const parent = await c.exists(root);
    same('parent', [parent.cversion, parent.numChildren, number(parent.pzxid)], [1, 1, number(stat.czxid)]);
};

cases.create_null_data = async (root) => {
    const c = await connect();
    await c.create(`${root}/null`);
    same('data', (await c.getData(`${root}/null`))[0], undefined);
    await c.create(`${root}/empty`, Buffer.alloc(0));
    const [data] = await c.getData(`${root}/empty`);
    same('length', data ? data.length : 0, 0);
};

cases.create_errors = async (root) => {
    const c = await connect();
    await fails(c.create(`${root}/no/parent`), 'NO_NODE');
    await fails(c.create(root), 'NODE_EXISTS');
    await fails(c.create(`${root}/a`, null, [new ACL(Permission.ALL, new Id('nosuch', 'x'))]), 'INVALID_ACL');
    await fails(c.create(`${root}/a`, null, ACL.CREATOR_ALL_ACL), 'INVALID_ACL');
    await c.create(`${root}/e`, null, CreateMode.EPHEMERAL);
    await fails(c.create(`${root}/e/child`), 'NO_CHILDREN_FOR_EPHEMERALS');
    await fails(c.getData(`${root}/none`), 'NO_NODE');
    await fails(c.getChildren(`${root}/none`), 'NO_NODE');
    same('exists', await c.exists(`${root}/none`), null);
};

cases.create_sequential = async (root) => {
    const c = await connect();
    for (let i = 0; i < 11; i++) {
        const path = await c.create(`${root}/s-`, null, CreateMode.PERSISTENT_SEQUENTIAL);
        same('path', path, `${root}/s-${String(i).padStart(10, '0')}`);
    }
    same('path', await c.create(`${root}/t-`, null, CreateMode.EPHEMERAL_SEQUENTIAL), `${root}/t-0000000011`);
};

cases.set_and_delete_versions = async (root) => {
    const c = await connect();
    await c.create(`${root}/a`, Buffer.from('0'));
    same('version', (await c.setData(`${root}/a`, Buffer.from('1'), 0)).version, 1);
    await fails(c.setData(`${root}/a`, Buffer.from('2'), 7), 'BAD_VERSION');
    same('version', (await c.setData(`${root}/a`, Buffer.from('2'), -1)).version, 2);
    await fails(c.remove(`${root}/a`, 7), 'BAD_VERSION');
    await fails(c.remove(root, -1), 'NOT_EMPTY');
    await c.remove(`${root}/a`, 2);
    await fails(c.remove(`${root}/a`, -1), 'NO_NODE');
    await fails(c.setData(`${root}/a`, Buffer.from('3'), -1), 'NO_NODE');
};

cases.mkdirp = async (root) => {
    const c = await connect();
    await c.mkdirp(`${root}/a/b/c/d`);
    await c.mkdirp(`${root}/a/b/c/d`);
    same('numChildren', (await c.exists(`${root}/a/b/c`)).numChildren, 1);
};

cases.children_10000 = async (root) => {
    const c = await connect(SERVER, 30000);
    const expected = [];
    for (let base = 0; base < 10000; base += 500) {
        const transaction = c.raw.transaction();
        for (let i = base; i < base + 500; i++) {
            expected.push(`child-${String(i).padStart(5, '0')}`);
            transaction.create(`${root}/${expected[i]}`);
        }
        same('error', (await c.commit(transaction)).error, null);
    }
    const [names, stat] = await c.getChildren(root);
    same('names', names.sort(), expected);
    same('numChildren', stat.numChildren, 10000);
};

cases.large_value = async (root) => {
    const c = await connect();
    const data = Buffer.alloc(1048000, 'The quick brown fox. ');
    await c.create(`${root}/a`, data);
    same('equal', (await c.getData(`${root}/a`))[0].equals(data), true);
};

cases.oversized_request_changes_nothing = async (root) => {
    const c = await connect();
    const id = c.id();
    let accepted = true;
    await c.setData(root, OVERSIZED).catch(() => { accepted = false; });
    same('accepted', accepted, false);
    same('version', (await retry(() => c.exists(root))).version, 0);
    same('session', c.id(), id);
};

cases.oversized_request_closes_connection = async (root) => {
    const c = await connect();
    await fails(c.setData(root, OVERSIZED), 'CONNECTION_LOSS');
};

cases.acl_and_auth = async (root) => {
    const owner = await connect();
    const other = await connect();
    owner.raw.addAuthInfo('digest', Buffer.from('pat:secret'));
    await owner.create(`${root}/mine`, Buffer.from('v'), ACL.CREATOR_ALL_ACL);
    const [acls, stat] = await owner.getACL(`${root}/mine`);
    same('acl', [acls.length, acls[0].permission, acls[0].id.scheme, acls[0].id.id.split(':')[0], stat.aversion],
        [1, 31, 'digest', 'pat', 0]);
    await fails(other.getData(`${root}/mine`), 'NO_AUTH');
    await fails(other.setData(`${root}/mine`, Buffer.from('w')), 'NO_AUTH');
    await fails(other.getACL(`${root}/mine`), 'NO_AUTH');
    await fails(other.exists(`${root}/mine`), 'NO_AUTH');
    other.raw.addAuthInfo('digest', Buffer.from('pat:secret'));
    await other.setACL(`${root}/mine`, ACL.READ_ACL_UNSAFE, 0);
    await fails(owner.setData(`${root}/mine`, Buffer.from('w')), 'NO_AUTH');
    same('aversion', (await owner.getACL(`${root}/mine`))[1].aversion, 1);
};

cases.auth_survives_reconnect = async (root) => {
    const c = await connect(PROXY, 20000);
    c.raw.addAuthInfo('digest', Buffer.from('kim:secret'));
    await c.create(`${root}/mine`, null, ACL.CREATOR_ALL_ACL);
    const again = c.once('connected');
    await control('cut');
    await again;
    await retry(() => c.setData(`${root}/mine`, Buffer.from('x')));
};

cases.auth_failure_ends_the_client = async () => {
    const c = await connect();
    const failed = c.once('authenticationFailed');
    c.raw.addAuthInfo('nosuch', Buffer.from('x'));
    await failed;
};

cases.transaction_succeeds = async (root) => {
    const c = await connect();
    await c.create(`${root}/old`, Buffer.from('v'));
    const {error, results} = await c.commit(c.raw.transaction()
        .check(`${root}/old`, 0)
        .create(`${root}/new-`, null, CreateMode.PERSISTENT_SEQUENTIAL)
        .setData(`${root}/old`, Buffer.from('w'), 0)
        .remove(`${root}/old`, 1));
    same('error', error, null);
    same('results', results.length, 4);
    same('path', results[1].path, `${root}/new-0000000001`);
    same('version', results[2].stat.version, 1);
    const [names, stat] = await c.getChildren(root);
    same('children', [names, stat.cversion], [['new-0000000001'], 3]);
};

cases.transaction_is_atomic = async (root) => {
    const c = await connect();
    const before = await c.exists(root);
    const {error, results} = await c.commit(c.raw.transaction()
        .create(`${root}/a`)
        .create(`${root}/a`)
        .remove(`${root}/a`, -1));
    same('error', error.name, 'NODE_EXISTS');
    same('results', results.map((result) => result.err), [0, -110, -2]);
    same('stat', await c.exists(root), before);
};

cases.pipelined_requests_in_order = async (root) => {
    const c = await connect();
    const order = [];
    const calls = [];
    for (let i = 0; i < 500; i++) {
        const value = String(i);
        calls.push(c.setData(root, Buffer.from(value), i).then(() => order.push(2 * i)));
        calls.push(c.getData(root).then(([data]) => { same('data', data.toString(), value); order.push(2 * i + 1); }));
    }
    await Promise.all(calls);
    same('order', order, Array.from({length: 1000}, (_, i) => i));
};

cases.watches_fire_once = async (root) => {
    const c = await connect();
    const data = watcher();
    const missing = watcher();
    const children = watcher();
    await c.getData(root, data);
    await c.exists(`${root}/a`, missing);
    await c.getChildren(root, children);
    await c.setData(root, Buffer.from('1'));
    same('event', await data.next(), ['NODE_DATA_CHANGED', root]);
    await c.create(`${root}/a`);
    same('event', await missing.next(), ['NODE_CREATED', `${root}/a`]);
    same('event', await children.next(), ['NODE_CHILDREN_CHANGED', root]);
    await c.setData(root, Buffer.from('2'));
    await c.remove(`${root}/a`);
    await c.exists(root);
    same('more', [data.pending, missing.pending, children.pending], [[], [], []]);
    const both = watcher();
    await c.getData(root, both);
    await c.remove(root);
    same('event', await both.next(), ['NODE_DELETED', root]);
};

cases.own_event_comes_before_reply = async (root) => {
    const c = await connect();
    for (let i = 0; i < 50; i++) {
        const watch = watcher();
        await c.exists(root, watch);
        await c.setData(root, Buffer.from(String(i)));
        same('events', watch.pending.length, 1);
    }
};

cases.watches_fire_in_order = async (root) => {
    const c = await connect();
    const other = await connect();
    const watch = watcher();
    const paths = Array.from({length: 100}, (_, i) => `${root}/n${i}`);
    for (const path of paths) {
        await c.create(path);
        await c.exists(path, watch);
    }
    const order = paths.map((_, i) => paths[(i * 37) % 100]);
    for (const path of order) await retry(() => other.setData(path, Buffer.from('x')));
    for (const path of order) same('event', await watch.next(), ['NODE_DATA_CHANGED', path]);
};

cases.close_removes_ephemerals = async (root) => {
    const c = await connect(SERVER, 30000);
    const other = await connect();
    await c.create(`${root}/e`, null, CreateMode.EPHEMERAL);
    same('owner', (await c.exists(`${root}/e`)).ephemeralOwner.toString('hex'), c.id());
    const away = gone(other, `${root}/e`);
    c.close();
    await away;
};

cases.session_survives_lost_socket = async (root) => {
    const c = await connect(PROXY, 20000);
    const id = c.id();
    await c.create(`${root}/e`, null, CreateMode.EPHEMERAL);
    for (let i = 0; i < 3; i++) {
        const again = c.once('connected');
        await control('cut');
        await again;
        same('session', c.id(), id);
        same('owner', (await retry(() => c.exists(`${root}/e`))).ephemeralOwner.toString('hex'), id);
    }
};

cases.session_is_taken_over = async (root) => {
    const c = await connect(PROXY, 20000);
    await c.create(`${root}/e`, null, CreateMode.EPHEMERAL);
    const [sessionId, sessionPassword] = [c.raw.getSessionId(), c.raw.getSessionPassword()];
    await control('refuse');
    const second = await connect(SERVER, 20000, {sessionId, sessionPassword});
    same('session', second.id(), sessionId.toString('hex'));
    await second.remove(`${root}/e`);
};

cases.silent_client_expires = async (root) => {
    const c = await connect(PROXY, 1000);
    const other = await connect();
    await c.create(`${root}/e`, null, CreateMode.EPHEMERAL);
    const expired = c.once('expired');
    await control('stall');
    await gone(other, `${root}/e`);
    await control('refuse');
    await control('accept');
    await expired;
};

cases.session_and_data_survive_kill = async (root) => {
    const c = await connect(PROXY, 30000);
    const id = c.id();
    await c.create(`${root}/e`, Buffer.from('kept'), CreateMode.EPHEMERAL);
    const before = await c.exists(`${root}/e`);
    const again = c.once('connected');
    await control('restart');
    await again;
    same('session', c.id(), id);
    const [data, after] = await retry(() => c.getData(`${root}/e`));
    same('data', data.toString(), 'kept');
    same('stat', after, before);
};

cases.chroot = async (root) => {
    const plain = await connect();
    const c = await connect(`${SERVER}${root}`);
    same('path', await c.create('/a', Buffer.from('v')), '/a');
    // On another server the znode may come a little later; a write of one's own comes after it.
    await plain.setData(root, Buffer.from(''));
    same('data', (await plain.getData(`${root}/a`))[0].toString(), 'v');
    const watch = watcher();
    await c.getData('/a', watch);
    await plain.setData(`${root}/a`, Buffer.from('w'));
    same('event', await watch.next(), ['NODE_DATA_CHANGED', '/a']);
};
