package compat;

/** Curator's recipes, against any server. */
public final class CuratorSuite {
    private CuratorSuite() {}

    public static void main(String[] arguments) throws Exception {
        Harness harness = new Harness();
        FrameworkCases.addTo(harness);
        LockCases.addTo(harness);
        LeaderCases.addTo(harness);
        CacheCases.addTo(harness);
        CoordinationCases.addTo(harness);
        QueueCases.addTo(harness);
        DiscoveryCases.addTo(harness);
        System.exit(harness.main(arguments));
    }
}
