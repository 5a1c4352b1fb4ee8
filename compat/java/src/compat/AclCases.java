package compat;

import static org.apache.zookeeper.KeeperException.Code.BADVERSION;
import static org.apache.zookeeper.KeeperException.Code.INVALIDACL;
import static org.apache.zookeeper.KeeperException.Code.NOAUTH;
import static org.apache.zookeeper.KeeperException.Code.NONODE;
import static org.apache.zookeeper.ZooDefs.Ids.ANYONE_ID_UNSAFE;
import static org.apache.zookeeper.ZooDefs.Ids.CREATOR_ALL_ACL;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;
import static org.apache.zookeeper.ZooDefs.Ids.READ_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** ACLs and authentication. Lists of ACLs are not List.of(): the client asks them whether they contain null. */
final class AclCases {
    private AclCases() {}

    static void addTo(Harness harness) {
        harness.add("acl-get-set", AclCases::getSet);
        harness.add("acl-permissions", AclCases::permissions);
        harness.add("acl-invalid", AclCases::invalid);
        harness.add("acl-digest-masked", AclCases::masked);
        harness.add("acl-ip", AclCases::ip);
        harness.add("auth-digest", AclCases::digest);
        harness.add("auth-after-reconnect", AclCases::afterReconnect);
        harness.add("auth-fails", AclCases::fails);
        harness.add("auth-who-am-i", AclCases::whoAmI);
        harness.add("auth-super-user", AclCases::superUser);
    }

    private static void getSet(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String path = world.node("a", "");
        Stat stat = new Stat();
        Check.same(OPEN_ACL_UNSAFE, zk.getACL(path, stat));
        Check.same(0, stat.getAversion());
        List<ACL> acl = Arrays.asList(new ACL(Perms.ALL, ANYONE_ID_UNSAFE), new ACL(Perms.READ, new Id("ip", "10.0.0.0/8")));
        Check.same(1, zk.setACL(path, acl, 0).getAversion());
        Check.same(acl, zk.getACL(path, new Stat()));
        Check.fails(BADVERSION, () -> zk.setACL(path, acl, 0));
        Check.same(2, zk.setACL(path, OPEN_ACL_UNSAFE, -1).getAversion());
        Check.fails(NONODE, () -> zk.getACL(world.path("none"), null));
    }

    private static void permissions(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String read = zk.create(world.path("r"), null, READ_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.that(zk.exists(read, false) != null, "READ suffices");
        Check.fails(NOAUTH, () -> zk.setData(read, null, -1));
        Check.fails(NOAUTH, () -> zk.create(read + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Check.fails(NOAUTH, () -> zk.setACL(read, OPEN_ACL_UNSAFE, -1));
        Check.same(READ_ACL_UNSAFE, zk.getACL(read, new Stat()));
        List<ACL> writeOnly = Arrays.asList(new ACL(Perms.WRITE | Perms.CREATE | Perms.ADMIN, ANYONE_ID_UNSAFE));
        String write = zk.create(world.path("w"), null, writeOnly, CreateMode.PERSISTENT);
        zk.setData(write, null, -1);
        String child = zk.create(write + "/x", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.fails(NOAUTH, () -> zk.getData(write, false, null));
        Check.fails(NOAUTH, () -> zk.exists(write, false));
        Check.fails(NOAUTH, () -> zk.getChildren(write, false));
        Check.fails(NOAUTH, () -> {
            zk.delete(child, -1);
            return null;
        });
        Check.same(NOAUTH, Check.fails(NOAUTH, () -> zk.transaction().delete(child, -1).commit()).code());
        Check.same(1, zk.setACL(write, OPEN_ACL_UNSAFE, 0).getAversion());
        zk.delete(child, -1);
        List<ACL> nothing = Arrays.asList(new ACL(Perms.WRITE, ANYONE_ID_UNSAFE));
        String blind = zk.create(world.path("b"), null, nothing, CreateMode.PERSISTENT);
        Check.fails(NOAUTH, () -> zk.getACL(blind, new Stat()));
        zk.delete(blind, -1);
    }

    private static void invalid(World world) throws Exception {
        ZooKeeper zk = world.zk();
        List<Id> bad = List.of(new Id("world", "me"), new Id("nobody", "x"), new Id("digest", "no-colon"), new Id("ip", "x"), new Id("auth", ""));
        for (Id id : bad) {
            List<ACL> acl = Arrays.asList(new ACL(Perms.ALL, id));
            Check.fails(INVALIDACL, () -> zk.create(world.path("x"), null, acl, CreateMode.PERSISTENT));
            Check.fails(INVALIDACL, () -> zk.setACL(world.root, acl, -1));
        }
        // The client refuses an empty list by itself; a null one too.
        Check.fails(INVALIDACL, () -> zk.create(world.path("x"), null, new ArrayList<>(), CreateMode.PERSISTENT));
        Check.fails(INVALIDACL, () -> zk.setACL(world.root, null, -1));
    }

    private static void masked(World world) throws Exception {
        ZooKeeper owner = world.open();
        owner.addAuthInfo("digest", NodeCases.bytes("user:pass"));
        Id id = new Id("digest", DigestAuthenticationProvider.generateDigest("user:pass"));
        String path = owner.create(world.path("a"), null, Arrays.asList(new ACL(Perms.ALL, id), new ACL(Perms.READ, ANYONE_ID_UNSAFE)), CreateMode.PERSISTENT);
        Check.same(id, owner.getACL(path, new Stat()).get(0).getId());
        world.zk().sync(path);
        Check.same(new Id("digest", "user:x"), world.zk().getACL(path, new Stat()).get(0).getId());
        owner.delete(path, -1);
    }

    private static void ip(World world) throws Exception {
        ZooKeeper zk = world.zk();
        String mine = zk.create(world.path("mine"), null, Arrays.asList(new ACL(Perms.ALL, new Id("ip", "127.0.0.1"))), CreateMode.PERSISTENT);
        zk.setData(mine, null, -1);
        String net = zk.create(world.path("net"), null, Arrays.asList(new ACL(Perms.ALL, new Id("ip", "127.0.0.0/8"))), CreateMode.PERSISTENT);
        zk.setData(net, null, -1);
        String other = zk.create(world.path("other"), null, Arrays.asList(new ACL(Perms.ALL, new Id("ip", "127.0.0.2"))), CreateMode.PERSISTENT);
        Check.fails(NOAUTH, () -> zk.setData(other, null, -1));
        zk.delete(other, -1);
    }

    private static void digest(World world) throws Exception {
        ZooKeeper owner = world.open();
        owner.addAuthInfo("digest", NodeCases.bytes("user:pass"));
        String path = owner.create(world.path("a"), NodeCases.bytes("secret"), CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Check.same("user:smGaoVKd/cQkjm7b88GyorAUz20=", owner.getACL(path, new Stat()).get(0).getId().getId());
        ZooKeeper other = world.open();
        other.sync(path);
        Check.fails(NOAUTH, () -> other.getData(path, false, null));
        other.addAuthInfo("digest", NodeCases.bytes("user:wrong"));
        Check.fails(NOAUTH, () -> other.getData(path, false, null));
        other.addAuthInfo("digest", NodeCases.bytes("user:pass"));
        Check.same(NodeCases.bytes("secret"), other.getData(path, false, null));
        other.delete(path, 0);
    }

    private static void afterReconnect(World world) throws Exception {
        Proxy proxy = world.proxy();
        Events events = new Events();
        ZooKeeper zk = world.open(proxy.address(), World.SESSION_TIMEOUT_MS, events);
        zk.addAuthInfo("digest", NodeCases.bytes("user:pass"));
        String path = zk.create(world.path("a"), NodeCases.bytes("secret"), CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        proxy.cut();
        events.expect(KeeperState.Disconnected);
        events.expect(KeeperState.SyncConnected);
        Check.same(NodeCases.bytes("secret"), zk.getData(path, false, null));
        zk.delete(path, 0);
    }

    private static void fails(World world) throws Exception {
        Events events = new Events();
        ZooKeeper zk = world.open(world.address, World.SESSION_TIMEOUT_MS, events);
        zk.addAuthInfo("no-such-scheme", NodeCases.bytes("x"));
        events.expect(KeeperState.AuthFailed);
        Check.eventually("the handle is of no use", () -> zk.getState() == ZooKeeper.States.AUTH_FAILED);
        Check.fails(KeeperException.Code.AUTHFAILED, () -> zk.exists("/", false));
    }

    private static void whoAmI(World world) throws Exception {
        ZooKeeper zk = world.open();
        Check.same(List.of(new ClientInfo("ip", "127.0.0.1")), zk.whoAmI());
        zk.addAuthInfo("digest", NodeCases.bytes("user:pass"));
        List<ClientInfo> ids = zk.whoAmI();
        Check.same(2, ids.size());
        Check.that(ids.contains(new ClientInfo("digest", "user")), "got " + ids);
    }

    private static void superUser(World world) throws Exception {
        World.controlAddress(); // whose server knows super:test
        ZooKeeper zk = world.zk();
        String path = zk.create(world.path("a"), null, Arrays.asList(new ACL(0, ANYONE_ID_UNSAFE)), CreateMode.PERSISTENT);
        Check.fails(NOAUTH, () -> zk.getData(path, false, null));
        ZooKeeper admin = world.open();
        admin.addAuthInfo("digest", NodeCases.bytes("super:test"));
        admin.setACL(path, OPEN_ACL_UNSAFE, -1);
        zk.setData(path, null, -1);
    }
}
