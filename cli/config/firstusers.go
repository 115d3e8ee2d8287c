package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kraft/raftmeta/image"
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
