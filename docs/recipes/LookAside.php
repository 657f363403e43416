<?php
/**
 * Look-aside with leases, hints, marks and tokens, in plain meta commands. Copy it, and change what you like.
 *
 * It is one connection to one node; your usual client says which node has a key. client.md of the documentation says why each
 * step is there.
 */

declare(strict_types=1);

final class LookAside
{
    /** Client flags of an empty value: the database has none. */
    private const ABSENT = 1;
    /** The token of a write whose version could not be told. */
    public const PRIMARY = 'primary';

    /** @var resource */
    private $stream;

    /** $epochsUrl is /epochs of a `mcsqueal run` or `mcsqueal invalidator`. */
    public function __construct(string $address, private string $epochsUrl, private int $ttl = 3600)
    {
        $stream = stream_socket_client("tcp://$address", $code, $message, 1.0);
        if ($stream === false) {
            throw new RuntimeException($message);
        }
        stream_set_timeout($stream, 1);
        $this->stream = $stream;
    }

    /** @return array{list<string>, ?string} the words of the answer, and the value */
    private function ask(string $line, ?string $data = null): array
    {
        fwrite($this->stream, $line . "\r\n" . ($data === null ? '' : $data . "\r\n"));
        $said = fgets($this->stream);
        if ($said === false) {
            throw new RuntimeException('the node does not answer');
        }
        $words = explode(' ', trim($said));
        if ($words[0] !== 'VA') {
            return [$words, null];
        }
        $whole = stream_get_contents($this->stream, (int) $words[1] + 2);
        return [$words, substr($whole, 0, -2)];
    }

    /** @param list<string> $words */
    private static function flag(array $words, string $letter): string
    {
        foreach (array_slice($words, 1) as $word) {
            if ($word[0] === $letter && strlen($word) > 1) {
                return substr($word, 1);
            }
        }
        return '0';
    }

    /**
     * The value, or null if there is none.
     *
     * $fill(bool $primary): ?string reads the database, the primary if it is told so, in a snapshot that it opens itself. $mayFill
     * must be false inside a transaction that has written or has read before, and at READ UNCOMMITTED. $token comes from write().
     */
    public function get(string $key, callable $fill, ?string $token = null, bool $mayFill = true): ?string
    {
        if ($token === self::PRIMARY) {
            return $fill(true);
        }
        $ask = "mg $key v c f G V$token" . ($mayFill ? ' N10' : '');
        $giveUp = microtime(true) + 3.0;
        for ($wait = 5000; ; $wait = min($wait * 2, 100000)) {
            [$words, $value] = $this->ask($ask);
            $has = fn (string $flag): bool => in_array($flag, array_slice($words, 1), true);
            $primary = $has('G') || $token !== null;
            if ($words[0] === 'EN') { // Nothing, and no right to store anything.
                return $fill($primary);
            }
            if ($value === null) {
                throw new RuntimeException(implode(' ', $words));
            }
            if ($has('W') && $mayFill) { // Ours to read, and to store.
                return $this->fill($key, self::flag($words, 'c'), $fill, $primary);
            }
            $none = self::flag($words, 'f') === (string) self::ABSENT;
            $held = $has('Z') && $value === '' && !$none;
            if (!$held && !$has('X')) {
                return $none ? null : $value;
            }
            if (microtime(true) > $giveUp) { // The replicas may be behind: only the holder of the lease is told.
                return $fill(true);
            }
            usleep(random_int(intdiv($wait, 2), $wait)); // Somebody else reads it.
        }
    }

    private function fill(string $key, string $lease, callable $fill, bool $primary): ?string
    {
        try {
            $value = $fill($primary);
        } catch (Throwable $failed) {
            $this->ask("md $key C$lease"); // Somebody else may try.
            throw $failed;
        }
        if ($value === null) {
            $this->ask("ms $key 0 C$lease T30 F" . self::ABSENT, '');
        } else {
            $this->ask("ms $key " . strlen($value) . " C$lease T{$this->ttl}", $value); // NS: it has changed since. Good for us.
        }
        return $value;
    }

    /**
     * Runs $transaction(), which writes $keys and commits on $database; returns the token for its user. Mark at the owners of each
     * key in every cluster of the region; here, that is one node.
     *
     * @param list<string> $keys
     */
    public function write(array $keys, PDO $database, callable $transaction): string
    {
        $mark = 'm' . random_int(1, PHP_INT_MAX);
        foreach ($keys as $key) { // NS: no mark stands there. The token is as good.
            $this->ask("md $key $mark");
        }
        // If it fails and it is sure that nothing was committed, V0 ends the marks; else they end by themselves.
        $transaction();
        $version = $this->version($database);
        if ($version !== self::PRIMARY) {
            foreach ($keys as $key) {
                $this->ask("md $key $mark V$version");
            }
        }
        return $version;
    }

    /** The version of what was committed last on this connection, or a later one. */
    private function version(PDO $database): string
    {
        $ask = fn (string $select): string => (string) $database->query($select)->fetchColumn();
        if (str_contains($ask('SELECT VERSION()'), 'MariaDB')) {
            [$domain, $server, $number] = explode('-', $ask('SELECT @@last_gtid'));
            return $this->versionOf("$domain-$server", (int) $number);
        }
        $uuid = $ask('SELECT @@server_uuid');
        foreach (explode(',', str_replace("\n", '', $ask('SELECT @@global.gtid_executed'))) as $part) {
            if (str_starts_with(trim($part), "$uuid:")) {
                $numbers = preg_split('/[:-]/', trim($part));
                return $this->versionOf($uuid, (int) end($numbers));
            }
        }
        return self::PRIMARY;
    }

    private function versionOf(string $origin, int $number): string
    {
        for ($attempt = 0; $attempt < 10; $attempt++) {
            $epochs = json_decode(file_get_contents($this->epochsUrl), true);
            $newest = end($epochs);
            // Of another server's epoch, or of one that has ended, the number says nothing.
            if ($newest && $newest['origin'] === $origin && $number >= $newest['first']) {
                return sprintf('%u', $newest['epoch'] << 48 | $number);
            }
            usleep(50000);
        }
        return self::PRIMARY;
    }
}
