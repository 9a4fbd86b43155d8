package where

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// slurmTask is what srun gives a task of a job of three nodes (Slurm 22.05), and changes to it.
func slurmTask(changes ...string) []string {
	return append([]string{"SLURM_JOB_ID=41", "SLURM_STEP_ID=0", "SLURM_STEP_NODELIST=node[1-3]", "SLURM_STEP_NUM_NODES=3",
		"SLURM_STEP_TASKS_PER_NODE=1(x3)", "SLURM_NODEID=2", "SLURM_JOB_NUM_NODES=3", "SLURM_JOB_NODELIST=node[1-3]"}, changes...)
}

var nodes3 = []string{"node1", "node2", "node3"}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags Flags
		env   []string
		want  Place
	}{
		{"nothing", Flags{}, nil, Place{MinNodes: 1, MaxNodes: 1, Port: 29400, MaxRestarts: -1, Source: Alone}},
		{"flags", Flags{NNodes: "2:8", Join: []string{"node0", "10.0.0.1:7000"}, Port: "7001", RunID: "r", KeyFile: "k"}, nil,
			Place{MinNodes: 2, MaxNodes: 8, NodeRank: -1, RunID: "r", Join: []string{"node0", "10.0.0.1:7000"}, Port: 7001, KeyFile: "k", MaxRestarts: -1, Source: FromFlags}},
		{"one node joins nobody", Flags{NNodes: "1", Join: []string{"node0"}}, nil,
			Place{MinNodes: 1, MaxNodes: 1, Port: 29400, MaxRestarts: -1, Source: FromFlags}},
		{"slurm", Flags{}, slurmTask(),
			Place{MinNodes: 3, MaxNodes: 3, NodeRank: 2, RunID: "slurm-41", Join: nodes3, Port: 16082, MaxRestarts: -1, Source: FromSlurm}},
		{"flags over slurm, field by field", Flags{NNodes: "2:3", Port: "5", KeyFile: "k"}, slurmTask("DDPRUN_RUN_ID=mine"),
			Place{MinNodes: 2, MaxNodes: 3, NodeRank: 2, RunID: "mine", Join: nodes3, Port: 5, KeyFile: "k", MaxRestarts: -1, Source: FromFlags}},
		{"a step smaller than its job", Flags{}, slurmTask("SLURM_STEP_NODELIST=node2", "SLURM_STEP_NUM_NODES=1", "SLURM_STEP_TASKS_PER_NODE=1", "SLURM_NODEID=0"),
			Place{MinNodes: 1, MaxNodes: 1, RunID: "slurm-41", Port: 16082, MaxRestarts: -1, Source: FromSlurm}},
		{"an elastic job that began with fewer", Flags{NNodes: "1:4"}, slurmTask(),
			Place{MinNodes: 1, MaxNodes: 4, NodeRank: 2, RunID: "slurm-41", Join: nodes3, Port: 16082, MaxRestarts: -1, Source: FromFlags}},
		{"the script of a job with one node", Flags{}, []string{"SLURM_JOB_ID=7", "SLURM_JOB_NUM_NODES=1"},
			Place{MinNodes: 1, MaxNodes: 1, RunID: "slurm-7", Port: 29400, MaxRestarts: -1, Source: Alone}},
		{"alone in a job's script by request", Flags{NNodes: "1"}, []string{"SLURM_JOB_ID=7", "SLURM_JOB_NUM_NODES=2", "SLURM_STEP_ID=4294967290"},
			Place{MinNodes: 1, MaxNodes: 1, Port: 29400, MaxRestarts: -1, Source: FromFlags}},
		{"two components of a heterogeneous job", Flags{}, slurmTask("SLURM_HET_SIZE=2", "SLURM_JOB_ID_HET_GROUP_0=41", "SLURM_JOB_NUM_NODES_HET_GROUP_0=1"),
			Place{MinNodes: 3, MaxNodes: 3, NodeRank: 2, RunID: "slurm-41", Join: nodes3, Port: 16082, MaxRestarts: -1, Source: FromSlurm}},
		{"an array's element", Flags{}, slurmTask("SLURM_ARRAY_JOB_ID=40", "SLURM_ARRAY_TASK_ID=1"),
			Place{MinNodes: 3, MaxNodes: 3, NodeRank: 2, RunID: "slurm-41", Join: nodes3, Port: 16082, MaxRestarts: -1, Source: FromSlurm}},
		{"our manifest", Flags{}, []string{"DDPRUN_NNODES=3", "DDPRUN_JOIN=run-0.run,run-1.run", "DDPRUN_KEY_FILE=/key/key", "DDPRUN_RUN_ID=run", "JOB_COMPLETION_INDEX=1", "DDPRUN_NPROC=8"},
			Place{MinNodes: 3, MaxNodes: 3, NodeRank: 1, RunID: "run", Join: []string{"run-0.run", "run-1.run"}, Port: 29400, KeyFile: "/key/key", NProc: "8", MaxRestarts: -1, Source: FromKubernetes}},
		{"a Kubeflow TrainJob", Flags{}, []string{"PET_NNODES=2", "PET_NPROC_PER_NODE=auto", "PET_NODE_RANK=1", "PET_MASTER_ADDR=job-node-0-0.job", "PET_MASTER_PORT=29500", "JOB_COMPLETION_INDEX=1"},
			Place{MinNodes: 2, MaxNodes: 2, NodeRank: 1, Join: []string{"job-node-0-0.job"}, Port: 29500, NProc: "auto", MaxRestarts: -1, Source: FromPET}},
		{"an elastic PyTorchJob", Flags{}, []string{"PET_NNODES=1:3", "PET_RDZV_BACKEND=c10d", "PET_RDZV_ENDPOINT=job-worker-0:29400", "PET_RDZV_ID=id", "PET_MAX_RESTARTS=10", "MASTER_ADDR=other"},
			Place{MinNodes: 1, MaxNodes: 3, NodeRank: -1, RunID: "id", Join: []string{"job-worker-0:29400"}, Port: 29400, MaxRestarts: 10, Source: FromPET}},
		{"a PyTorchJob", Flags{}, []string{"PET_NNODES=2", "PET_NODE_RANK=0", "MASTER_ADDR=job-master-0", "MASTER_PORT=23456"},
			Place{MinNodes: 2, MaxNodes: 2, NodeRank: 0, Join: []string{"job-master-0"}, Port: 23456, MaxRestarts: -1, Source: FromPET}},
		{"MASTER_ADDR alone says nothing", Flags{}, slurmTask("MASTER_ADDR=node9", "MASTER_PORT=1"),
			Place{MinNodes: 3, MaxNodes: 3, NodeRank: 2, RunID: "slurm-41", Join: nodes3, Port: 16082, MaxRestarts: -1, Source: FromSlurm}},
		{"DDPRUN_ over PET_", Flags{}, []string{"PET_NNODES=2", "PET_NODE_RANK=1", "PET_MASTER_ADDR=a", "DDPRUN_JOIN=b", "DDPRUN_NODE_RANK=0"},
			Place{MinNodes: 2, MaxNodes: 2, NodeRank: 0, Join: []string{"b"}, Port: 29400, MaxRestarts: -1, Source: FromPET}},
		{"pods that train alone", Flags{NNodes: "1"}, []string{"JOB_COMPLETION_INDEX=5"},
			Place{MinNodes: 1, MaxNodes: 1, NodeRank: 5, Port: 29400, MaxRestarts: -1, Source: FromFlags}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := Find(c.flags, c.env); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestFindRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags Flags
		env   []string
		says  string
	}{
		{"several tasks a node", Flags{}, slurmTask("SLURM_STEP_TASKS_PER_NODE=2(x2),1"), "2 tasks on a node, but one agent a node starts all its ranks: srun --ntasks-per-node=1 ddprun --nproc 2"},
		{"several tasks on the only node", Flags{NNodes: "1"}, slurmTask("SLURM_STEP_TASKS_PER_NODE=8"), "8 tasks on a node"},
		{"a node twice", Flags{}, slurmTask("SLURM_STEP_NODELIST=node[1-2],node1"), "names a node twice (node[1-2],node1)"},
		{"a script of several nodes", Flags{}, []string{"SLURM_JOB_ID=7", "SLURM_JOB_NUM_NODES=2"}, "has 2 nodes, but ddprun runs in its script"},
		{"an interactive shell", Flags{}, []string{"SLURM_JOB_ID=7", "SLURM_JOB_NUM_NODES=2", "SLURM_STEP_ID=4294967290"}, "start it by srun, one task a node"},
		{"more nodes than the step", Flags{NNodes: "4"}, slurmTask(), "--nnodes wants 4 nodes, but this Slurm step has 3 nodes"},
		{"fewer nodes than the step", Flags{}, slurmTask("PET_NNODES=1"), "PET_NNODES takes 1 node, but this Slurm step has 3 nodes"},
		{"mixed variables", Flags{}, slurmTask("SLURM_STEP_NUM_NODES=2"), "variables of two steps are mixed"},
		{"a host list", Flags{}, slurmTask("SLURM_STEP_NODELIST=node[1-"), "SLURM_STEP_NODELIST: host list"},
		{"no tasks", Flags{}, slurmTask("SLURM_STEP_TASKS_PER_NODE="), "SLURM_STEP_TASKS_PER_NODE: is not set"},
		{"a job", Flags{}, []string{"SLURM_JOB_ID=x"}, `SLURM_JOB_ID: "x"`},
		{"nobody to join", Flags{NNodes: "2"}, nil, "give every node the same --join"},
		{"a rank too high", Flags{NNodes: "2", Join: []string{"a"}, NodeRank: "2"}, nil, "--node-rank is 2, but of 2 nodes the last is 1"},
		{"no rank", Flags{NodeRank: "-1"}, nil, "--node-rank: want a number from 0"},
		{"no number", Flags{NNodes: "many"}, nil, "--nnodes: want a number of nodes N, or MIN:MAX"},
		{"upside down", Flags{NNodes: "3:2"}, nil, "MIN is more than MAX"},
		{"no nodes", Flags{}, []string{"DDPRUN_NNODES=0"}, "DDPRUN_NNODES: want from 1"},
		{"a port", Flags{Port: "65535"}, nil, "--port: want a number from 1 to 65534"},
		{"an address", Flags{NNodes: "2", Join: []string{"a:b"}}, nil, `--join: "a:b": want a port`},
		{"a name", Flags{NNodes: "2"}, []string{"DDPRUN_JOIN=a,b c"}, `DDPRUN_JOIN: "b c": "b c" is no name of a host`},
		{"an Indexed Job of somebody else's", Flags{}, []string{"JOB_COMPLETION_INDEX=0"}, "nothing says how many pods train together"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p, err := Find(c.flags, c.env); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v\nwant an error that says %q", p, err, c.says)
			}
		})
	}
}

// A long list is cut to the same few everywhere.
func TestFindJoinsFew(t *testing.T) {
	p, err := Find(Flags{}, slurmTask("SLURM_STEP_NODELIST=n[0001-1000]", "SLURM_STEP_NUM_NODES=1000", "SLURM_STEP_TASKS_PER_NODE=1(x1000)", "SLURM_NODEID=999"))
	if err != nil || len(p.Join) != maxJoin || p.Join[0] != "n0001" || p.MaxNodes != 1000 || p.NodeRank != 999 {
		t.Errorf("%d nodes, rank %d, join %v, %v", p.MaxNodes, p.NodeRank, p.Join, err)
	}
}

// Jobs that follow each other, and the first steps of a job, listen elsewhere, and never on each other's second port.
func TestSlurmPort(t *testing.T) {
	seen := map[int]string{}
	for job := uint64(123456); job < 123456+900; job++ {
		for step := range uint64(4) {
			port, who := slurmPort(job, step), fmt.Sprintf("%d.%d", job, step)
			if port < 16000 || port >= 30000 || port%2 != 0 {
				t.Fatalf("%s: port %d", who, port)
			}
			if other, taken := seen[port]; taken {
				t.Fatalf("%s and %s both have port %d", who, other, port)
			}
			seen[port] = who
		}
	}
}

func TestSplitAddress(t *testing.T) {
	for _, c := range []struct {
		address, host string
		port          int
	}{
		{"node0", "node0", 9}, {"node0:7", "node0", 7}, {"10.0.0.1", "10.0.0.1", 9}, {"10.0.0.1:7", "10.0.0.1", 7}, {"fe80::1", "fe80::1", 9},
		{"[::1]", "::1", 9}, {"[::1]:7", "::1", 7}, {"a-b.c_d", "a-b.c_d", 9},
	} {
		if host, port, err := SplitAddress(c.address, 9); err != nil || host != c.host || port != c.port {
			t.Errorf("%s: %s, %d, %v", c.address, host, port, err)
		}
	}
	for _, address := range []string{"", ":7", "a:", "a:0", "a:65535", "a:b", "a:1:2", "-x", "a b", "a;b", "[::1]:", "[::1", "$(x)", strings.Repeat("a", 254)} {
		if host, port, err := SplitAddress(address, 9); err == nil {
			t.Errorf("%q: %q, %d; want an error", address, host, port)
		}
	}
}
