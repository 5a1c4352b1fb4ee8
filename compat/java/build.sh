# Sourced: build POM WORKDIR SOURCE... fetches the jars a POM names into WORKDIR/lib and compiles into WORKDIR/classes.
# Maven's own cache is used (WORKDIR/m2 instead, if that exists), without the network when it holds everything.
build() {
    pom=$1
    work=$2
    shift 2
    if ! cmp -s "$pom" "$work/pom.xml.done"; then
        rm -rf "$work/lib"
        repository="$HOME/.m2/repository"
        [ -d "$work/m2" ] && repository="$work/m2"
        fetch "$repository" -o || fetch "$repository" || { cat "$work/mvn.log" >&2; exit 3; }
        cp "$pom" "$work/pom.xml.done"
    fi
    newest=$(ls -t "$work/classes.done" "$@" 2>/dev/null | head -n 1)
    [ "$newest" = "$work/classes.done" ] && return
    rm -rf "$work/classes"
    javac -nowarn -encoding UTF-8 -d "$work/classes" -cp "$work/lib/*" "$@" || exit 3
    touch "$work/classes.done"
}

fetch() {
    mvn -B -q "-Dmaven.repo.local=$1" ${2+"$2"} -f "$pom" dependency:copy-dependencies "-DoutputDirectory=$work/lib" \
        >"$work/mvn.log" 2>&1
}
