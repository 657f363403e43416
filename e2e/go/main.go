// Runs the recipe of the documentation for Go: own writes are read while the replica stands still.
//
//	main NODE EPOCHS_URL PRIMARY_PORT REPLICA_PORT
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"recipes/lookaside"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func check(got []byte, expected string) {
	if string(got) != expected {
		log.Fatalf("%q instead of %q", got, expected)
	}
}

func open(ctx context.Context, port string) *sql.Conn {
	db := must(sql.Open("mysql", fmt.Sprintf("root@tcp(127.0.0.1:%s)/shop", port)))
	return must(db.Conn(ctx))
}

func main() {
	ctx := context.Background()
	node := must(lookaside.Dial(os.Args[1], 10*time.Second))
	cache := lookaside.Cache{Node: node, EpochsURL: os.Args[2], TTL: 600, AbsentTTL: 30, Patience: 10 * time.Second}
	primary, replica := open(ctx, os.Args[3]), open(ctx, os.Args[4])
	reads := 0
	fill := func(thing int) lookaside.Fill {
		return func(atPrimary bool) ([]byte, error) {
			reads++
			conn := replica
			if atPrimary {
				conn = primary
			}
			var value []byte
			err := conn.QueryRowContext(ctx, "SELECT value FROM shop.things WHERE id = ?", thing).Scan(&value)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, nil
			}
			return value, err
		}
	}
	for range 2 {
		check(must(cache.Get("thing:61", 0, true, fill(61))), "v0")
		check(must(cache.Get("thing:9998", 0, true, fill(9998))), "")
	}
	if reads != 2 {
		log.Fatalf("%d reads", reads)
	}
	// A lease that nobody uses is given back.
	broken := errors.New("broken")
	if _, err := cache.Get("thing:63", 0, true, func(bool) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		log.Fatal(err)
	}
	check(must(cache.Get("thing:63", 0, true, fill(63))), "v0")
	for number := 1; number <= 10; number++ {
		value := fmt.Sprintf("v%d", number)
		token := must(cache.Write(ctx, primary, []string{"thing:61"}, func() error {
			_, err := primary.ExecContext(ctx, "UPDATE shop.things SET value = ? WHERE id = 61", value)
			return err
		}))
		if token == lookaside.Primary {
			log.Fatal("no version")
		}
		check(must(cache.Get("thing:61", token, true, fill(61))), value)
		check(must(cache.Get("thing:61", 0, true, fill(61))), value)
	}
	fmt.Println("ok")
}
