package compat;

import java.util.Collection;
import java.util.List;
import java.util.TreeSet;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.strategies.RoundRobinStrategy;

/** Service discovery. */
final class DiscoveryCases {
    private DiscoveryCases() {}

    static void addTo(Harness harness) {
        harness.add("discovery-register-and-find", DiscoveryCases::find);
        harness.add("discovery-cache", DiscoveryCases::cache);
        harness.add("discovery-provider", DiscoveryCases::provider);
        harness.add("discovery-new-session", DiscoveryCases::newSession);
    }

    private static ServiceInstance<String> instance(String id, int port) throws Exception {
        return ServiceInstance.<String>builder().name("service").id(id).address("127.0.0.1").port(port).payload("of " + id).build();
    }

    private static ServiceDiscovery<String> discovery(World world, CuratorFramework client, ServiceInstance<String> mine) throws Exception {
        ServiceDiscoveryBuilder<String> builder = ServiceDiscoveryBuilder.builder(String.class).client(client).basePath("/services");
        if (mine != null) {
            builder.thisInstance(mine);
        }
        ServiceDiscovery<String> discovery = builder.build();
        discovery.start();
        world.keep(discovery);
        return discovery;
    }

    private static void find(World world) throws Exception {
        ServiceDiscovery<String> discovery = discovery(world, Curators.open(world), instance("one", 1));
        ServiceInstance<String> two = instance("two", 2);
        discovery.registerService(two);
        ServiceDiscovery<String> client = discovery(world, Curators.open(world), null);
        Check.same(List.of("service"), List.copyOf(client.queryForNames()));
        Check.same(2, client.queryForInstances("service").size());
        Check.same("of two", client.queryForInstance("service", "two").getPayload());
        discovery.unregisterService(two);
        Check.eventually("it is gone", () -> client.queryForInstance("service", "two") == null);
    }

    private static void cache(World world) throws Exception {
        ServiceDiscovery<String> discovery = discovery(world, Curators.open(world), instance("one", 1));
        ServiceDiscovery<String> client = discovery(world, Curators.open(world), null);
        ServiceCache<String> cache = world.keep(client.serviceCacheBuilder().name("service").build());
        cache.start();
        Check.eventually("it is filled", () -> cache.getInstances().size() == 1);
        discovery.registerService(instance("two", 2));
        Check.eventually("it hears of another", () -> cache.getInstances().size() == 2);
        discovery.unregisterService(instance("one", 1));
        Check.eventually("and of its end", () -> cache.getInstances().size() == 1);
        Check.same("two", cache.getInstances().get(0).getId());
    }

    private static void provider(World world) throws Exception {
        ServiceDiscovery<String> discovery = discovery(world, Curators.open(world), instance("one", 1));
        discovery.registerService(instance("two", 2));
        ServiceDiscovery<String> client = discovery(world, Curators.open(world), null);
        ServiceProvider<String> provider = world.keep(
            client.serviceProviderBuilder().serviceName("service").providerStrategy(new RoundRobinStrategy<>()).build());
        provider.start();
        Check.eventually("it knows both", () -> provider.getAllInstances().size() == 2);
        TreeSet<String> given = new TreeSet<>();
        for (int i = 0; i < 4; i++) {
            given.add(provider.getInstance().getId());
        }
        Check.same(new TreeSet<>(List.of("one", "two")), given);
    }

    private static void newSession(World world) throws Exception {
        Proxy proxy = world.proxy();
        discovery(world, Curators.open(world, proxy.address(), 1000), instance("one", 1));
        ServiceDiscovery<String> client = discovery(world, Curators.open(world), null);
        Check.eventually("it is registered", () -> client.queryForInstances("service").size() == 1);
        proxy.refuse();
        Check.eventually("it is gone with its session", () -> {
            Collection<ServiceInstance<String>> instances = client.queryForInstances("service");
            return instances.isEmpty();
        });
        proxy.welcome();
        Check.eventually("it registers again", () -> client.queryForInstances("service").size() == 1);
    }
}
