package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// KeyVariable is the environment variable that may hold the job's key.
const KeyVariable = "DDPRUN_KEY"

// Bounds of a key, without white space around it.
const (
	minKeyBytes = 16
	maxKeyBytes = 64 << 10
)

// ReadKey reads the job's key: the file's content, without white space around it. A file that everybody may read, or that others may write,
// is refused. One that its group may read is taken where that is how secrets are handed out: if it belongs to somebody else than this
// process's user, or if Kubernetes has mounted it (which makes 0400 into 0440 for a pod with an fsGroup).
func ReadKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what a link leads to, as opened
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s: not a file", file)
	}
	if err := checkMode(info, mounted(file)); err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	key, err := checkKey(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	return key, nil
}

// checkMode says who else can read or change the key.
func checkMode(info fs.FileInfo, mounted bool) error {
	mode := info.Mode().Perm()
	own := false
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		own = int(stat.Uid) == os.Geteuid()
	}
	switch {
	case mode&0o077 == 0, mode&0o037 == 0 && (mounted || !own):
		return nil
	case mounted:
		return fmt.Errorf("mode %04o: other users can read or change it: give the secret's volume defaultMode: 0400", mode)
	}
	return fmt.Errorf("mode %04o: other users can read or change it: chmod 600 it", mode)
}

// mounted says whether file is one of a secret that Kubernetes has mounted: a link by way of ..data beside it.
func mounted(file string) bool {
	target, err := os.Readlink(file)
	return err == nil && strings.HasPrefix(filepath.ToSlash(target), "..data/")
}

// KeyFromEnvironment takes the job's key out of DDPRUN_KEY: the variable is removed, so that no process started later inherits it. It returns
// nil where the variable is not set. The environment with which this process was started stays visible in /proc to its own user; a file does not.
func KeyFromEnvironment() ([]byte, error) {
	text, set := os.LookupEnv(KeyVariable)
	if !set {
		return nil, nil
	}
	if err := os.Unsetenv(KeyVariable); err != nil {
		return nil, fmt.Errorf("%s: %w", KeyVariable, err)
	}
	key, err := checkKey([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", KeyVariable, err)
	}
	return key, nil
}

// checkKey trims a key and refuses one that could be guessed.
func checkKey(data []byte) ([]byte, error) {
	key := bytes.TrimSpace(data)
	switch {
	case len(key) < minKeyBytes:
		return nil, fmt.Errorf("%d bytes; at least %d are wanted: openssl rand -hex 32 makes one", len(key), minKeyBytes)
	case len(key) > maxKeyBytes:
		return nil, errors.New("more than 64 KiB: not a key")
	}
	return bytes.Clone(key), nil
}
