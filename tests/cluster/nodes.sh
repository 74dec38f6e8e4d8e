# Sourced after tests/crash/prepare.sh: a Slurm of four nodes on this machine, all of whose processes have their own ports, keys and
# folders, and are stopped at the end.

[ "$(id -u)" = 0 ] || skip "only root may start the nodes"
if ! command -v slurmctld slurmd sbatch munged >/dev/null; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge; } >"$scratch/apt" 2>&1 ||
        skip "slurm-wlm and munge cannot be installed: $(tail -1 "$scratch/apt")"
fi

place=$scratch/slurm
mkdir -m 755 -p "$place/state" "$scratch/out"
chmod 755 "$scratch"
started=()
stop() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for pid in "${started[@]}"; do
        wait "$pid" 2>/dev/null
    done
    clean_up
}
trap stop EXIT

# A munge of its own: the key of the machine, if it has one, is not touched.
head -c 1024 /dev/urandom >"$place/munge.key"
chmod 600 "$place/munge.key"
munged --foreground --force --key-file="$place/munge.key" --socket="$place/munge.socket" --pid-file="$place/munge.pid" \
    --log-file="$place/munge.log" --seed-file="$place/munge.seed" 2>"$place/munge.err" &
started+=($!)
sed "s|HOST|$(hostname -s)|; s|PLACE|$place|g" tests/cluster/slurm.conf >"$place/slurm.conf"
export SLURM_CONF=$place/slurm.conf
wait_for 10 test -S "$place/munge.socket"
slurmctld -D 2>"$place/slurmctld.err" &
started+=($!)
for node in n1 n2 n3 n4; do
    mkdir "$place/spool.$node"
    slurmd -D -N "$node" 2>"$place/$node.err" &
    started+=($!)
done
are_idle() { [ "$(sinfo -h -N -o %T | sort | uniq -c | tr -s ' ')" = " 4 idle" ]; }
wait_for 30 are_idle || skip "no Slurm of four nodes starts here: $(tail -1 "$place/slurmctld.log")"

# has_ended JOBS: whether Slurm has none of these jobs any more.
has_ended() { [ -z "$(squeue -h -j "$1" 2>/dev/null)" ]; }
