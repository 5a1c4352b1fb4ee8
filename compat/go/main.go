// Command cases runs cases on github.com/go-zookeeper/zk and reports each on a line; see lib/outcomes.py.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	caseLimit = 60 * time.Second
	waitLimit = 30 * time.Second
)

// failure ends a case; everything else that panics is a bug of the case and reported with its stack.
type failure string

func fail(format string, arguments ...any) {
	panic(failure(fmt.Sprintf(format, arguments...)))
}

// ok ends the case unless the error is nil.
func ok(err error) {
	if err != nil {
		fail("unexpected error: %v", err)
	}
}

// is ends the case unless the error is the expected one.
func is(err, expected error) {
	if err != expected {
		fail("error is %v, expected %v", err, expected)
	}
}

// same ends the case unless both are equal.
func same[T comparable](what string, actual, expected T) {
	if actual != expected {
		fail("%s is %v, expected %v", what, actual, expected)
	}
}

func must[T any](value T, err error) T {
	ok(err)
	return value
}

func mustStat[T any](value T, stat *zk.Stat, err error) (T, *zk.Stat) {
	ok(err)
	return value, stat
}

// server is the connection string: host:port, or several with commas.
func server() string { return os.Getenv("COMPAT_SERVER") }

// servers are its parts.
func servers() []string { return strings.Split(server(), ",") }
func proxy() string     { return os.Getenv("COMPAT_PROXY") }

// control says a word to the control port; see lib/control.py.
func control(word string) {
	connection, err := net.Dial("tcp", os.Getenv("COMPAT_CONTROL"))
	ok(err)
	defer connection.Close()
	fmt.Fprintln(connection, word)
	answer := must(bufio.NewReader(connection).ReadString('\n'))
	if strings.TrimSpace(answer) != "ok" {
		fail("control %s: %s", word, answer)
	}
}

// session is a connection and the session states it went through.
type session struct {
	*zk.Conn
	events <-chan zk.Event
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// open starts a session without waiting for it.
func open(address string, timeout time.Duration) session {
	connection, events, err := zk.Connect(strings.Split(address, ","), timeout, zk.WithLogger(quiet{}))
	ok(err)
	return session{connection, events}
}

// connect starts a session and waits for it.
func connect(address string, timeout time.Duration) session {
	s := open(address, timeout)
	s.waitState(zk.StateHasSession)
	return s
}

// waitState reads session events until this state comes.
func (s session) waitState(state zk.State) {
	limit := time.After(waitLimit)
	for {
		select {
		case event, open := <-s.events:
			if !open {
				fail("the session ended before %v", state)
			}
			if event.Type == zk.EventSession && event.State == state {
				return
			}
		case <-limit:
			fail("no %v within %v", state, waitLimit)
		}
	}
}

// wait takes one event from a watch.
func wait(watch <-chan zk.Event, kind zk.EventType, path string) {
	select {
	case event := <-watch:
		if event.Type != kind || event.Path != path || event.Err != nil {
			fail("event %v on %s (%v), expected %v on %s", event.Type, event.Path, event.Err, kind, path)
		}
	case <-time.After(waitLimit):
		fail("no event, expected %v on %s", kind, path)
	}
}

// silent makes a round trip and then checks that a watch has not fired.
func (s session) silent(watch <-chan zk.Event) {
	_, _, err := s.Exists("/")
	ok(err)
	select {
	case event := <-watch:
		fail("unexpected event %v on %s", event.Type, event.Path)
	default:
	}
}

// gone waits until a node does not exist.
func (s session) gone(path string) {
	limit := time.Now().Add(waitLimit)
	for {
		exists, _, watch, err := s.ExistsW(path)
		ok(err)
		if !exists {
			return
		}
		select {
		case <-watch:
		case <-time.After(time.Until(limit)):
			fail("%s is still there", path)
		}
	}
}

// retry repeats a call that lost its connection.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		value, err := call()
		if err != zk.ErrConnectionClosed {
			return value, err
		}
	}
}

var openACL = zk.WorldACL(zk.PermAll)

type testCase struct {
	name string
	run  func(root string)
}

func run(test testCase) (problem string) {
	done := make(chan string, 1)
	go func() {
		defer func() {
			switch reason := recover().(type) {
			case nil:
				done <- ""
			case failure:
				done <- string(reason)
			default:
				done <- fmt.Sprintf("panic: %v %s", reason, strings.ReplaceAll(string(debug.Stack()), "\n", " "))
			}
		}()
		root := "/go-" + test.name
		s := connect(server(), 10*time.Second)
		must(s.Create(root, nil, 0, openACL))
		s.Close()
		test.run(root)
	}()
	select {
	case problem = <-done:
	case <-time.After(caseLimit):
		problem = fmt.Sprintf("hung for %v", caseLimit)
	}
	control("accept")
	return problem
}

func main() {
	fmt.Printf("1..%d\n", len(cases))
	for _, test := range cases {
		if problem := run(test); problem != "" {
			fmt.Printf("not ok %s: %s\n", test.name, problem)
		} else {
			fmt.Printf("ok %s\n", test.name)
		}
	}
}
