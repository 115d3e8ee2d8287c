package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kraft/raftmeta/image"
	"kraft/wire/sasl"
)

// firstUsersFile is in the metadata directory. It holds the credentials with which a new cluster begins (KIP-900).
const firstUsersFile = "kraft-first-users.json"

// WriteFirstUsers keeps credentials for the first start of a cluster.
func WriteFirstUsers(metadataDir string, users []image.ScramCredential) error {
	data, err := json.MarshalIndent(users, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(metadataDir, firstUsersFile), data, 0o600)
}

// FirstUser is the credential of a user who logs in with a password by a mechanism. salt is what nobody can guess, such as rand.Text().
func FirstUser(user, password string, h sasl.Hash, salt []byte) (image.ScramCredential, error) {
	c := image.ScramCredential{User: user, Mechanism: image.ScramMechanism(h.Number), Salt: salt, Iterations: sasl.MinIterations}
	salted, err := h.SaltedPassword(password, salt, sasl.MinIterations)
	if err == nil {
		c.StoredKey, c.ServerKey = h.Keys(salted)
	}
	return c, err
}

// RemoveFirstUsers removes the file once the cluster has begun.
func RemoveFirstUsers(metadataDir string) error {
	err := os.Remove(filepath.Join(metadataDir, firstUsersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadFirstUsers returns the credentials with which a new cluster begins, none if no file is there.
func ReadFirstUsers(metadataDir string) (users []image.ScramCredential, err error) {
	path := filepath.Join(metadataDir, firstUsersFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &users)
	}
	if err != nil {
		return nil, fmt.Errorf("users of kafka-storage format --add-scram in %s: %w", path, err)
	}
	return users, nil
}
