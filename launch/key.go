package launch

import "github.com/ddprun/ddprun/launch/mesh"

// ReadKey returns the job's key: from a file, or where none is named from DDPRUN_KEY, which is then gone from the environment; nil: there is none.
func ReadKey(file string) ([]byte, error) {
	if file == "" {
		return mesh.KeyFromEnvironment()
	}
	return mesh.ReadKey(file)
}
