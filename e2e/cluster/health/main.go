// Says how GitOps tools see an object: by a health check of Argo CD in its own Lua engine, and by kstatus, which Flux, `kubectl` and
// Helm wait by.
//
// It reads one JSON object from its standard input and writes one JSON array: for each object of it what both say.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type request struct {
	Script  string                      `json:"script"`
	Objects []unstructured.Unstructured `json:"objects"`
}

type answer struct {
	Argo    argo    `json:"argo"`
	Kstatus kstatus `json:"kstatus"`
}

type argo struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Error   string `json:"error,omitempty"`
}

type kstatus struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Error   string `json:"error,omitempty"`
}

// The words that Argo CD takes from a health check.
var known = map[string]bool{
	"Healthy": true, "Progressing": true, "Degraded": true, "Suspended": true, "Missing": true, "Unknown": true,
}

func main() {
	var wanted request
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		log.Fatalf("failed to read what is wanted: %v", err)
	}
	answers := make([]answer, 0, len(wanted.Objects))
	for index := range wanted.Objects {
		object := &wanted.Objects[index]
		answers = append(answers, answer{Argo: check(wanted.Script, object), Kstatus: compute(object)})
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		log.Fatalf("failed to write the answers: %v", err)
	}
}

func compute(object *unstructured.Unstructured) kstatus {
	result, err := status.Compute(object)
	if err != nil {
		return kstatus{Error: err.Error()}
	}
	return kstatus{Status: result.Status.String(), Message: result.Message}
}

// Argo CD gives a check no library but these, nor more than a second.
func check(script string, object *unstructured.Unstructured) argo {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		function := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(function, lua.LString(library.name)); err != nil {
			return argo{Error: err.Error()}
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(script); err != nil {
		return argo{Error: err.Error()}
	}
	table, is := state.Get(-1).(*lua.LTable)
	if !is {
		return argo{Error: fmt.Sprintf("it returns %s, not a table", state.Get(-1).Type())}
	}
	health := argo{Status: lua.LVAsString(table.RawGetString("status")), Message: lua.LVAsString(table.RawGetString("message"))}
	if !known[health.Status] {
		health.Error = fmt.Sprintf("%q is no status", health.Status)
	}
	return health
}

func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case bool:
		return lua.LBool(of)
	case float64:
		return lua.LNumber(of)
	case int64:
		return lua.LNumber(of)
	case string:
		return lua.LString(of)
	case []any:
		list := state.CreateTable(len(of), 0)
		for _, one := range of {
			list.Append(value(state, one))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(of))
		for key, one := range of {
			table.RawSetString(key, value(state, one))
		}
		return table
	}
	return lua.LNil
}
