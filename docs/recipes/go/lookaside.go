// Package lookaside is look-aside with leases, hints, marks and tokens, in plain meta commands. Copy it, and change what you
// like.
//
// One Node is one connection to one node and belongs to one goroutine; your usual client says which node has a key. The client.md
// of the documentation says why each step is there.
package lookaside

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Absent are the client flags of an empty value: the database has none.
const absent = 1

// Node is a connection.
type Node struct {
	conn    net.Conn
	reader  *bufio.Reader
	timeout time.Duration
}

// Dial connects to a node.
func Dial(address string, timeout time.Duration) (*Node, error) {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	return &Node{conn, bufio.NewReader(conn), timeout}, nil
}

// Ask sends one command with its data; it returns the words of the answer and the value.
func (n *Node) Ask(request string) ([]string, []byte, error) {
	if err := n.conn.SetDeadline(time.Now().Add(n.timeout)); err != nil {
		return nil, nil, err
	}
	if _, err := n.conn.Write([]byte(request + "\r\n")); err != nil {
		return nil, nil, err
	}
	line, err := n.reader.ReadString('\n')
	if err != nil {
		return nil, nil, err
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, nil, errors.New("an empty answer")
	}
	if words[0] != "VA" || len(words) < 2 {
		return words, nil, nil
	}
	length, err := strconv.Atoi(words[1])
	if err != nil {
		return nil, nil, err
	}
	value := make([]byte, length+2)
	_, err = io.ReadFull(n.reader, value)
	return words, value[:length], err
}

func flag(words []string, letter byte) uint64 {
	for _, word := range words[1:] {
		if word[0] == letter && len(word) > 1 {
			number, _ := strconv.ParseUint(word[1:], 10, 64)
			return number
		}
	}
	return 0
}

// Epoch is what matters here of an epoch in the list at EpochsURL.
type Epoch struct {
	Epoch  uint64 `json:"epoch"`
	Origin string `json:"origin"`
	First  uint64 `json:"first"`
}

// Cache reads and writes through a node. EpochsURL is /epochs of a `mcsqueal run` or `mcsqueal invalidator`.
type Cache struct {
	Node      *Node
	EpochsURL string
	TTL       int
	AbsentTTL int
	Patience  time.Duration
	epochs    []Epoch
}

// Fill reads the database, the primary if it is told so, in a snapshot that it opens itself. No value: there is none.
type Fill func(primary bool) (value []byte, err error)

// Primary is the token of a write whose version could not be told.
const Primary = ^uint64(0)

// Get returns the value, or nil if there is none. mayFill must be false inside a transaction that has written or has read before,
// and at READ UNCOMMITTED. The token comes from Write; 0 is none.
func (c *Cache) Get(key string, token uint64, mayFill bool, fill Fill) ([]byte, error) {
	if token == Primary {
		return fill(true)
	}
	ask := "mg " + key + " v c f G V"
	if token != 0 {
		ask += strconv.FormatUint(token, 10)
	}
	if mayFill {
		ask += " N10"
	}
	giveUp, wait := time.Now().Add(c.Patience), 5*time.Millisecond
	for {
		words, value, err := c.Node.Ask(ask)
		if err != nil {
			return nil, err
		}
		has := func(flag string) bool { return slices.Contains(words[1:], flag) }
		primary := has("G") || token != 0
		if words[0] == "EN" { // Nothing, and no right to store anything.
			return fill(primary)
		}
		if words[0] != "VA" {
			return nil, errors.New(strings.Join(words, " "))
		}
		if has("W") && mayFill { // Ours to read, and to store.
			return c.fill(key, flag(words, 'c'), primary, fill)
		}
		none := flag(words, 'f') == absent
		held := has("Z") && len(value) == 0 && !none
		if !held && !has("X") {
			if none {
				return nil, nil
			}
			return value, nil
		}
		if time.Now().After(giveUp) { // The replicas may be behind: only the holder of the lease is told.
			return fill(true)
		}
		time.Sleep(wait/2 + rand.N(wait/2)) // Somebody else reads it.
		wait = min(wait*2, 100*time.Millisecond)
	}
}

func (c *Cache) fill(key string, lease uint64, primary bool, fill Fill) ([]byte, error) {
	value, err := fill(primary)
	if err != nil {
		_, _, _ = c.Node.Ask(fmt.Sprintf("md %s C%d", key, lease)) // Somebody else may try.
		return nil, err
	}
	store := fmt.Sprintf("ms %s %d C%d T%d\r\n%s", key, len(value), lease, c.TTL, value)
	if value == nil {
		store = fmt.Sprintf("ms %s 0 C%d T%d F%d\r\n", key, lease, c.AbsentTTL, absent)
	}
	_, _, err = c.Node.Ask(store) // `NS`: it has changed since. The value is good for us.
	return value, err
}

// Write runs a transaction that writes keys and commits, on one connection; it returns the token for its user. Mark at the owners
// of each key in every cluster of the region; here, that is one node.
func (c *Cache) Write(ctx context.Context, conn *sql.Conn, keys []string, transaction func() error) (uint64, error) {
	mark := rand.Uint64()
	for _, key := range keys { // `NS`: no mark stands there. The token is as good.
		if _, _, err := c.Node.Ask(fmt.Sprintf("md %s m%d", key, mark)); err != nil {
			return 0, err
		}
	}
	// If it fails and it is sure that nothing was committed, V0 ends the marks; else they end by themselves.
	if err := transaction(); err != nil {
		return 0, err
	}
	version, err := c.version(ctx, conn)
	if err != nil || version == 0 {
		return Primary, err
	}
	for _, key := range keys {
		if _, _, err := c.Node.Ask(fmt.Sprintf("md %s m%d V%d", key, mark, version)); err != nil {
			return version, err
		}
	}
	return version, nil
}

// The version of what was committed last on this connection, or a later one; 0 if it cannot be told.
func (c *Cache) version(ctx context.Context, conn *sql.Conn) (uint64, error) {
	var server, uuid, executed string
	if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&server); err != nil {
		return 0, err
	}
	if strings.Contains(server, "MariaDB") {
		if err := conn.QueryRowContext(ctx, "SELECT @@last_gtid").Scan(&executed); err != nil {
			return 0, err
		}
		at := strings.LastIndexByte(executed, '-')
		if at < 0 {
			return 0, nil
		}
		return c.versionOf(executed[:at], executed[at+1:])
	}
	// Drivers with a session tracker can say it exactly: SET SESSION session_track_gtids = OWN_GTID.
	row := conn.QueryRowContext(ctx, "SELECT @@server_uuid, @@global.gtid_executed")
	if err := row.Scan(&uuid, &executed); err != nil {
		return 0, err
	}
	for part := range strings.SplitSeq(executed, ",") {
		part = strings.TrimSpace(part)
		if strings.HasPrefix(part, uuid+":") {
			return c.versionOf(uuid, part[strings.LastIndexAny(part, ":-")+1:])
		}
	}
	return 0, nil
}

func (c *Cache) versionOf(origin, digits string) (uint64, error) {
	number, err := strconv.ParseUint(digits, 10, 48)
	if err != nil {
		return 0, err
	}
	client := http.Client{Timeout: time.Second}
	for range 10 {
		if len(c.epochs) > 0 {
			// Of another server's epoch, or of one that has ended, the number says nothing.
			newest := c.epochs[len(c.epochs)-1]
			if newest.Origin == origin && number >= newest.First {
				return newest.Epoch<<48 | number, nil
			}
		}
		page, err := client.Get(c.EpochsURL)
		if err != nil {
			return 0, err
		}
		err = json.NewDecoder(page.Body).Decode(&c.epochs)
		_ = page.Body.Close()
		if err != nil {
			return 0, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, nil
}
