package main

import (
	"bytes"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

var cases = []testCase{
	{"create_and_read", createAndRead},
	{"create_errors", createErrors},
	{"create_sequential", createSequential},
	{"create_protected", createProtected},
	{"create_ttl_and_container", createTTLAndContainer},
	{"set_and_delete_versions", setAndDeleteVersions},
	{"children_10000", children10000},
	{"large_value", largeValue},
	{"oversized_request_changes_nothing", oversizedRequestChangesNothing},
	{"oversized_request_closes_connection", oversizedRequestClosesConnection},
	{"acl_and_auth", aclAndAuth},
	{"auth_survives_reconnect", authSurvivesReconnect},
	{"auth_super", authSuper},
	{"multi_succeeds", multiSucceeds},
	{"multi_is_atomic", multiIsAtomic},
	{"sync", syncPath},
	{"watch_data", watchData},
	{"watch_exists", watchExists},
	{"watch_children", watchChildren},
	{"watches_survive_reconnect", watchesSurviveReconnect},
	{"changes_while_disconnected_are_reported", changesWhileDisconnectedAreReported},
	{"close_removes_ephemerals", closeRemovesEphemerals},
	{"session_survives_lost_socket", sessionSurvivesLostSocket},
	{"silent_client_expires", silentClientExpires},
	{"session_and_data_survive_kill", sessionAndDataSurviveKill},
	{"lock_recipe", lockRecipe},
	{"goroutines_on_one_session", goroutinesOnOneSession},
	{"four_letter_words", fourLetterWords},
	{"reconfig_on_standalone", reconfigOnStandalone},
}

func createAndRead(root string) {
	s := connect(server(), 10*time.Second)
	same("path", must(s.Create(root+"/a", []byte("value"), 0, openACL)), root+"/a")
	data, stat := mustStat(s.Get(root + "/a"))
	same("data", string(data), "value")
	if stat.Czxid == 0 || stat.Mzxid != stat.Czxid || stat.Pzxid != stat.Czxid || stat.Ctime != stat.Mtime {
		fail("odd stat %+v", stat)
	}
	zero := *stat
	zero.Czxid, zero.Mzxid, zero.Pzxid, zero.Ctime, zero.Mtime = 0, 0, 0, 0, 0
	same("rest of the stat", zero, zk.Stat{DataLength: 5})
	_, parent := mustStat(s.Exists(root))
	same("parent's pzxid", parent.Pzxid, stat.Czxid)
	same("parent's cversion", parent.Cversion, 1)
	same("parent's children", parent.NumChildren, 1)
	if age := time.Since(time.UnixMilli(stat.Ctime)); age > time.Minute || age < -time.Minute {
		fail("ctime is %v old", age)
	}
}

func createErrors(root string) {
	s := connect(server(), 10*time.Second)
	_, err := s.Create(root+"/no/parent", nil, 0, openACL)
	is(err, zk.ErrNoNode)
	_, err = s.Create(root, nil, 0, openACL)
	is(err, zk.ErrNodeExists)
	_, err = s.Create(root+"/a", nil, 0, nil)
	is(err, zk.ErrInvalidACL)
	_, err = s.Create(root+"/a", nil, 0, []zk.ACL{{Perms: 31, Scheme: "nosuch", ID: "x"}})
	is(err, zk.ErrInvalidACL)
	_, err = s.Create(root+"/a", nil, 0, zk.AuthACL(zk.PermAll))
	is(err, zk.ErrInvalidACL)
	must(s.Create(root+"/e", nil, zk.FlagEphemeral, openACL))
	_, err = s.Create(root+"/e/child", nil, 0, openACL)
	is(err, zk.ErrNoChildrenForEphemerals)
	_, _, err = s.Get(root + "/none")
	is(err, zk.ErrNoNode)
	_, _, err = s.Children(root + "/none")
	is(err, zk.ErrNoNode)
	_, _, err = s.GetACL(root + "/none")
	is(err, zk.ErrNoNode)
	exists, _, err := s.Exists(root + "/none")
	ok(err)
	same("exists", exists, false)
}

func createSequential(root string) {
	s := connect(server(), 10*time.Second)
	for i := 0; i < 11; i++ {
		same("path", must(s.Create(root+"/s-", nil, zk.FlagSequence, openACL)), fmt.Sprintf("%s/s-%010d", root, i))
	}
	path := must(s.Create(root+"/t-", nil, zk.FlagEphemeralSequential, openACL))
	same("path", path, root+"/t-0000000011")
	_, stat := mustStat(s.Exists(path))
	same("owner", stat.EphemeralOwner, s.SessionID())
}

func createProtected(root string) {
	s := connect(server(), 10*time.Second)
	path := must(s.CreateProtectedEphemeralSequential(root+"/lock-", []byte("x"), openACL))
	_, stat := mustStat(s.Get(path))
	same("owner", stat.EphemeralOwner, s.SessionID())
}

func createTTLAndContainer(root string) {
	s := connect(server(), 10*time.Second)
	must(s.CreateTTL(root+"/ttl", nil, zk.FlagTTL, openACL, 300*time.Millisecond))
	same("path", must(s.CreateTTL(root+"/ttl-", nil, zk.FlagPersistentSequentialWithTTL, openACL, time.Hour)),
		root+"/ttl-0000000001")
	s.gone(root + "/ttl")
	must(s.CreateContainer(root+"/box", nil, zk.FlagContainer, openACL))
	must(s.Create(root+"/box/a", nil, 0, openACL))
	ok(s.Delete(root+"/box/a", -1))
	s.gone(root + "/box")
}

func setAndDeleteVersions(root string) {
	s := connect(server(), 10*time.Second)
	must(s.Create(root+"/a", []byte("0"), 0, openACL))
	stat := must(s.Set(root+"/a", []byte("1"), 0))
	same("version", stat.Version, 1)
	_, err := s.Set(root+"/a", []byte("2"), 0)
	is(err, zk.ErrBadVersion)
	same("version", must(s.Set(root+"/a", nil, -1)).Version, 2)
	is(s.Delete(root+"/a", 1), zk.ErrBadVersion)
	is(s.Delete(root, -1), zk.ErrNotEmpty)
	ok(s.Delete(root+"/a", 2))
	is(s.Delete(root+"/a", -1), zk.ErrNoNode)
	_, err = s.Set(root+"/a", nil, -1)
	is(err, zk.ErrNoNode)
}

func children10000(root string) {
	s := connect(server(), 30*time.Second)
	var expected []string
	for base := 0; base < 10000; base += 500 {
		var operations []any
		for i := base; i < base+500; i++ {
			name := fmt.Sprintf("child-%05d", i)
			expected = append(expected, name)
			operations = append(operations, &zk.CreateRequest{Path: root + "/" + name, Acl: openACL})
		}
		must(s.Multi(operations...))
	}
	names, stat := mustStat(s.Children(root))
	sort.Strings(names)
	if !reflect.DeepEqual(names, expected) {
		fail("%d names, not the ones created", len(names))
	}
	same("children", stat.NumChildren, 10000)
}

func largeValue(root string) {
	s := connect(server(), 10*time.Second)
	data := bytes.Repeat([]byte("0123456789abcdef"), 65000)
	must(s.Create(root+"/a", data, 0, openACL))
	back, _ := mustStat(s.Get(root + "/a"))
	same("equal", bytes.Equal(back, data), true)
}

// oversized sends a request of 2 MiB through a connection whose buffer allows it.
func oversized(root string) (session, error) {
	connection, events, err := zk.Connect(servers(), 10*time.Second, zk.WithLogger(quiet{}),
		zk.WithMaxConnBufferSize(4<<20))
	ok(err)
	s := session{connection, events}
	s.waitState(zk.StateHasSession)
	_, err = s.Set(root, make([]byte, 2<<20), -1)
	return s, err
}

func oversizedRequestChangesNothing(root string) {
	s, err := oversized(root)
	if err == nil {
		fail("2 MiB were accepted")
	}
	id := s.SessionID()
	stat, err := retry(func() (*zk.Stat, error) {
		_, stat, err := s.Exists(root)
		return stat, err
	})
	ok(err)
	same("version", stat.Version, 0)
	same("session", s.SessionID(), id)
}

func oversizedRequestClosesConnection(root string) {
	_, err := oversized(root)
	is(err, zk.ErrConnectionClosed)
}

func aclAndAuth(root string) {
	owner, other := connect(server(), 10*time.Second), connect(server(), 10*time.Second)
	ok(owner.AddAuth("digest", []byte("pat:secret")))
	must(owner.Create(root+"/mine", []byte("v"), 0, zk.AuthACL(zk.PermAll)))
	acl, _ := mustStat(owner.GetACL(root + "/mine"))
	if !reflect.DeepEqual(acl, zk.DigestACL(zk.PermAll, "pat", "secret")) {
		fail("acl is %v", acl)
	}
	_, _, err := other.Get(root + "/mine")
	is(err, zk.ErrNoAuth)
	_, err = other.Set(root+"/mine", nil, -1)
	is(err, zk.ErrNoAuth)
	_, err = other.SetACL(root+"/mine", openACL, -1)
	is(err, zk.ErrNoAuth)
	_, _, err = other.GetACL(root + "/mine")
	is(err, zk.ErrNoAuth)
	ok(other.AddAuth("digest", []byte("pat:secret")))
	_, err = other.SetACL(root+"/mine", openACL, 7)
	is(err, zk.ErrBadVersion)
	same("aversion", must(other.SetACL(root+"/mine", zk.WorldACL(zk.PermRead), 0)).Aversion, 1)
	_, err = owner.Set(root+"/mine", nil, -1)
	is(err, zk.ErrNoAuth)
}

func authSurvivesReconnect(root string) {
	s := connect(proxy(), 20*time.Second)
	ok(s.AddAuth("digest", []byte("kim:secret")))
	must(s.Create(root+"/mine", nil, 0, zk.AuthACL(zk.PermAll)))
	control("cut")
	s.waitState(zk.StateHasSession)
	must(retry(func() (*zk.Stat, error) { return s.Set(root+"/mine", nil, -1) }))
}

func authSuper(root string) {
	owner, super := connect(server(), 10*time.Second), connect(server(), 10*time.Second)
	must(owner.Create(root+"/a", nil, 0, zk.DigestACL(zk.PermAll, "nobody", "knows")))
	_, err := owner.Set(root+"/a", nil, -1)
	is(err, zk.ErrNoAuth)
	ok(super.AddAuth("digest", []byte("super:test")))
	must(super.Set(root+"/a", nil, -1))
}

func multiSucceeds(root string) {
	s := connect(server(), 10*time.Second)
	must(s.Create(root+"/old", []byte("v"), 0, openACL))
	results := must(s.Multi(
		&zk.CheckVersionRequest{Path: root + "/old", Version: 0},
		&zk.CreateRequest{Path: root + "/new-", Acl: openACL, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: root + "/old", Data: []byte("w"), Version: 0},
		&zk.DeleteRequest{Path: root + "/old", Version: 1},
	))
	same("results", len(results), 4)
	for _, result := range results {
		ok(result.Error)
	}
	same("path", results[1].String, root+"/new-0000000001")
	same("version", results[2].Stat.Version, 1)
	names, stat := mustStat(s.Children(root))
	same("children", fmt.Sprint(names), "[new-0000000001]")
	same("cversion", stat.Cversion, 3)
	_, created := mustStat(s.Exists(results[1].String))
	same("pzxid", stat.Pzxid, created.Czxid)
}

func multiIsAtomic(root string) {
	s := connect(server(), 10*time.Second)
	_, before := mustStat(s.Exists(root))
	results, err := s.Multi(
		&zk.CreateRequest{Path: root + "/a", Acl: openACL},
		&zk.CreateRequest{Path: root + "/a", Acl: openACL},
		&zk.DeleteRequest{Path: root + "/a", Version: -1},
	)
	is(err, zk.ErrNodeExists)
	same("results", len(results), 3)
	is(results[0].Error, nil)
	is(results[1].Error, zk.ErrNodeExists)
	_, after := mustStat(s.Exists(root))
	same("stat", *after, *before)
}

func syncPath(root string) {
	s := connect(server(), 10*time.Second)
	same("path", must(s.Sync(root)), root)
	same("path", must(s.Sync(root+"/none")), root+"/none")
}

func watchData(root string) {
	s, other := connect(server(), 10*time.Second), connect(server(), 10*time.Second)
	_, _, watch, err := s.GetW(root)
	ok(err)
	must(other.Set(root, []byte("1"), -1))
	wait(watch, zk.EventNodeDataChanged, root)
	_, _, watch, err = s.GetW(root)
	ok(err)
	s.silent(watch)
	must(s.Create(root+"/child", nil, 0, openACL))
	s.silent(watch)
	ok(s.Delete(root+"/child", -1))
	ok(s.Delete(root, -1))
	wait(watch, zk.EventNodeDeleted, root)
}

func watchExists(root string) {
	s := connect(server(), 10*time.Second)
	exists, _, watch, err := s.ExistsW(root + "/a")
	ok(err)
	same("exists", exists, false)
	must(s.Create(root+"/a", nil, 0, openACL))
	wait(watch, zk.EventNodeCreated, root+"/a")
	_, _, watch, err = s.ExistsW(root + "/a")
	ok(err)
	must(s.Set(root+"/a", nil, -1))
	wait(watch, zk.EventNodeDataChanged, root+"/a")
}

func watchChildren(root string) {
	s := connect(server(), 10*time.Second)
	_, _, watch, err := s.ChildrenW(root)
	ok(err)
	must(s.Set(root, nil, -1))
	s.silent(watch)
	must(s.Create(root+"/a", nil, 0, openACL))
	wait(watch, zk.EventNodeChildrenChanged, root)
	_, _, watch, err = s.ChildrenW(root + "/a")
	ok(err)
	ok(s.Delete(root+"/a", -1))
	wait(watch, zk.EventNodeDeleted, root+"/a")
}

func watchesSurviveReconnect(root string) {
	s := connect(proxy(), 20*time.Second)
	_, _, data, err := s.GetW(root)
	ok(err)
	_, _, missing, err := s.ExistsW(root + "/a")
	ok(err)
	_, _, children, err := s.ChildrenW(root)
	ok(err)
	control("cut")
	s.waitState(zk.StateHasSession)
	must(retry(func() (*zk.Stat, error) { return s.Set(root, nil, -1) }))
	wait(data, zk.EventNodeDataChanged, root)
	s.silent(missing)
	s.silent(children)
	must(s.Create(root+"/a", nil, 0, openACL))
	wait(missing, zk.EventNodeCreated, root+"/a")
	wait(children, zk.EventNodeChildrenChanged, root)
}

func changesWhileDisconnectedAreReported(root string) {
	s, other := connect(proxy(), 20*time.Second), connect(server(), 20*time.Second)
	for _, name := range []string{"/changed", "/deleted", "/parent", "/same"} {
		must(s.Create(root+name, nil, 0, openACL))
	}
	_, _, changed, err := s.GetW(root + "/changed")
	ok(err)
	_, _, deleted, err := s.GetW(root + "/deleted")
	ok(err)
	_, _, children, err := s.ChildrenW(root + "/parent")
	ok(err)
	_, _, created, err := s.ExistsW(root + "/created")
	ok(err)
	_, _, unchanged, err := s.GetW(root + "/same")
	ok(err)
	must(other.Sync(root))
	control("refuse")
	must(other.Set(root+"/changed", nil, -1))
	ok(other.Delete(root+"/deleted", -1))
	must(other.Create(root+"/parent/child", nil, 0, openACL))
	must(other.Create(root+"/created", nil, 0, openACL))
	control("accept")
	s.waitState(zk.StateHasSession)
	wait(changed, zk.EventNodeDataChanged, root+"/changed")
	wait(deleted, zk.EventNodeDeleted, root+"/deleted")
	wait(children, zk.EventNodeChildrenChanged, root+"/parent")
	wait(created, zk.EventNodeCreated, root+"/created")
	s.silent(unchanged)
}

func closeRemovesEphemerals(root string) {
	s, other := connect(server(), 30*time.Second), connect(server(), 10*time.Second)
	must(s.Create(root+"/e", nil, zk.FlagEphemeral, openACL))
	must(s.Create(root+"/p", nil, 0, openACL))
	must(other.Sync(root))
	_, _, watch, err := other.ExistsW(root + "/e")
	ok(err)
	s.Close()
	wait(watch, zk.EventNodeDeleted, root+"/e")
	names, _ := mustStat(other.Children(root))
	same("children", fmt.Sprint(names), "[p]")
}

func sessionSurvivesLostSocket(root string) {
	s := connect(proxy(), 20*time.Second)
	id := s.SessionID()
	must(s.Create(root+"/e", nil, zk.FlagEphemeral, openACL))
	for i := 0; i < 3; i++ {
		control("cut")
		s.waitState(zk.StateHasSession)
		same("session", s.SessionID(), id)
		stat, err := retry(func() (*zk.Stat, error) {
			_, stat, err := s.Get(root + "/e")
			return stat, err
		})
		ok(err)
		same("owner", stat.EphemeralOwner, id)
	}
}

func silentClientExpires(root string) {
	s, other := connect(proxy(), time.Second), connect(server(), 10*time.Second)
	must(s.Create(root+"/e", nil, zk.FlagEphemeral, openACL))
	must(other.Sync(root))
	control("stall")
	other.gone(root + "/e")
	control("refuse")
	control("accept")
	s.waitState(zk.StateExpired)
}

func sessionAndDataSurviveKill(root string) {
	s := connect(proxy(), 30*time.Second)
	id := s.SessionID()
	must(s.Create(root+"/e", []byte("kept"), zk.FlagEphemeral, openACL))
	_, before := mustStat(s.Get(root + "/e"))
	_, _, watch, err := s.GetW(root + "/e")
	ok(err)
	control("restart")
	s.waitState(zk.StateHasSession)
	same("session", s.SessionID(), id)
	var data []byte
	after, err := retry(func() (*zk.Stat, error) {
		read, stat, err := s.Get(root + "/e")
		data = read
		return stat, err
	})
	ok(err)
	same("data", string(data), "kept")
	same("stat", *after, *before)
	s.silent(watch)
	must(s.Set(root+"/e", nil, 0))
	wait(watch, zk.EventNodeDataChanged, root+"/e")
}

func lockRecipe(root string) {
	var inside, count int
	var guard sync.Mutex
	var workers sync.WaitGroup
	failures := make(chan string, 100)
	for i := 0; i < 5; i++ {
		s := connect(server(), 10*time.Second)
		workers.Add(1)
		go func() {
			defer workers.Done()
			for j := 0; j < 10; j++ {
				lock := zk.NewLock(s.Conn, root+"/lock", openACL)
				if err := lock.Lock(); err != nil {
					failures <- err.Error()
					return
				}
				guard.Lock()
				inside++
				count++
				if inside != 1 {
					failures <- "two holders"
				}
				inside--
				guard.Unlock()
				if err := lock.Unlock(); err != nil {
					failures <- err.Error()
				}
			}
		}()
	}
	workers.Wait()
	select {
	case problem := <-failures:
		fail("%s", problem)
	default:
	}
	same("turns", count, 50)
}

func goroutinesOnOneSession(root string) {
	s := connect(server(), 10*time.Second)
	var workers sync.WaitGroup
	failures := make(chan string, 100)
	for i := 0; i < 100; i++ {
		path := root + "/w" + strconv.Itoa(i)
		workers.Add(1)
		go func() {
			defer workers.Done()
			if _, err := s.Create(path, nil, 0, openACL); err != nil {
				failures <- err.Error()
				return
			}
			for j := 0; j < 50; j++ {
				value := strconv.Itoa(j)
				if _, err := s.Set(path, []byte(value), int32(j)); err != nil {
					failures <- err.Error()
					return
				}
				if data, _, err := s.Get(path); err != nil || string(data) != value {
					failures <- fmt.Sprintf("read %q (%v), expected %q", data, err, value)
					return
				}
			}
		}()
	}
	workers.Wait()
	select {
	case problem := <-failures:
		fail("%s", problem)
	default:
	}
}

func fourLetterWords(root string) {
	s := connect(server(), 10*time.Second)
	same("ruok", zk.FLWRuok(servers(), 5*time.Second)[0], true)
	// FLWSrvr is not here: it cannot read the date that 3.9 prints in its first line.
	// The second result is false whenever a connection without a session is listed, such as that of `cons` itself.
	clients, _ := zk.FLWCons(servers(), 5*time.Second)
	for _, one := range clients {
		for _, client := range one.Clients {
			if client.SessionID == s.SessionID() {
				same("timeout", client.Timeout, 10000)
				return
			}
		}
	}
	fail("cons does not list session %#x", s.SessionID())
}

func reconfigOnStandalone(root string) {
	s := connect(server(), 10*time.Second)
	_, err := s.IncrementalReconfig([]string{"server.2=localhost:1:2;3"}, nil, -1)
	if err == nil {
		fail("a reconfig without rights was accepted")
	}
	_, _, err = s.Get("/zookeeper/config")
	ok(err)
}
