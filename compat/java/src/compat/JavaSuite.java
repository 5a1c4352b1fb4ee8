package compat;

/** Every call of the ZooKeeper Java client, against any server. */
public final class JavaSuite {
    private JavaSuite() {}

    public static void main(String[] arguments) throws Exception {
        Harness harness = new Harness();
        NodeCases.addTo(harness);
        AsyncCases.addTo(harness);
        WatchCases.addTo(harness);
        SessionCases.addTo(harness);
        AclCases.addTo(harness);
        MultiCases.addTo(harness);
        ServerCases.addTo(harness);
        LoadCases.addTo(harness);
        System.exit(harness.main(arguments));
    }
}
