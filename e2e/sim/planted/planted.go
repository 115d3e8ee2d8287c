// Package planted says which deliberate mistake a test binary makes. Only sources that a test of the simulation has changed
// import it: kraft itself has no mistake to switch on.
package planted

import "os"

// Variable names the mistake, in the environment.
const Variable = "KRAFT_MISTAKE"

var mistake = os.Getenv(Variable)

// On says that the process makes the mistake of that name.
func On(name string) bool { return mistake == name }
