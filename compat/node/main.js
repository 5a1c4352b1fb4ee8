// Runs cases on node-zookeeper-client and reports each on a line; see lib/outcomes.py.
'use strict';

const net = require('net');
const zookeeper = require('node-zookeeper-client');

const CASE_LIMIT_MS = 60000;
const SERVER = process.env.COMPAT_SERVER;
const PROXY = process.env.COMPAT_PROXY;

// The package makes promises of nothing; these are the calls the cases use.
const METHODS = ['create', 'remove', 'exists', 'getChildren', 'getData', 'setData', 'getACL', 'setACL', 'mkdirp'];

// A client whose calls return promises: one result as it is, several as an array.
function wrap(client) {
    const calls = {raw: client};
    for (const method of METHODS) {
        calls[method] = (...args) => new Promise((resolve, reject) => {
            client[method](...args, (error, ...results) => {
                if (error) reject(error);
                else resolve(results.length > 1 ? results : results[0]);
            });
        });
    }
    calls.commit = (transaction) => new Promise((resolve) => {
        transaction.commit((error, results) => resolve({error, results}));
    });
    calls.once = (event) => new Promise((resolve) => client.once(event, resolve));
    calls.close = () => client.close();
    calls.id = () => client.getSessionId().toString('hex');
    return calls;
}

async function connect(address = SERVER, sessionTimeout = 10000, more = {}) {
    const client = zookeeper.createClient(address, {sessionTimeout, spinDelay: 20, ...more});
    const calls = wrap(client);
    client.connect();
    await calls.once('connected');
    return calls;
}

// Says a word to the control port; see lib/control.py.
function control(word) {
    return new Promise((resolve, reject) => {
        const [host, port] = process.env.COMPAT_CONTROL.split(':');
        const socket = net.connect(Number(port), host, () => socket.write(word + '\n'));
        let answer = '';
        socket.on('data', (part) => { answer += part; });
        socket.on('error', reject);
        socket.on('close', () => {
            if (answer.trim() === 'ok') resolve();
            else reject(new Error(`control ${word}: ${answer}`));
        });
    });
}

function same(what, actual, expected) {
    const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
    if (a !== e) throw new Error(`${what} is ${a}, expected ${e}`);
}

// Checks that a call fails with this error name of the package.
async function fails(promise, name) {
    let result;
    try {
        result = await promise;
    } catch (error) {
        if (error.name !== name) throw new Error(`error is ${error.stack}, expected ${name}`);
        return;
    }
    throw new Error(`no error but ${JSON.stringify(result)}, expected ${name}`);
}

// A watcher that remembers its events, and a way to wait for the next.
function watcher() {
    const events = [];
    let wake = () => {};
    const watch = (event) => { events.push([event.getName(), event.getPath()]); wake(); };
    watch.next = async () => {
        while (events.length === 0) await new Promise((resolve) => { wake = resolve; });
        return events.shift();
    };
    watch.pending = events;
    return watch;
}

// Repeats a call that lost its connection.
async function retry(call) {
    for (;;) {
        try {
            return await call();
        } catch (error) {
            if (error.name !== 'CONNECTION_LOSS') throw error;
        }
    }
}

// Waits until a node does not exist.
async function gone(client, path) {
    for (;;) {
        const watch = watcher();
        if (!await client.exists(path, watch)) return;
        await watch.next();
    }
}

// The package keeps 64-bit integers as buffers.
const number = (long) => Number(long.readBigInt64BE());

async function main() {
    const cases = require('./cases.js');
    const names = Object.keys(cases);
    console.log(`1..${names.length}`);
    for (const name of names) {
        let timer;
        try {
            const root = `/node-${name}`;
            const client = await connect();
            await client.create(root);
            client.close();
            const limit = new Promise((_, reject) => {
                timer = setTimeout(() => reject(new Error(`hung for ${CASE_LIMIT_MS} ms`)), CASE_LIMIT_MS);
            });
            await Promise.race([cases[name](root), limit]);
            console.log(`ok ${name}`);
        } catch (error) {
            console.log(`not ok ${name}: ${String(error.stack || error).replace(/\s+/g, ' ')}`);
        }
        clearTimeout(timer);
        await control('accept');
    }
    process.exit(0);
}

module.exports = {connect, control, fails, gone, number, retry, same, watcher, zookeeper, SERVER, PROXY};
if (require.main === module) main();
