@{
    RootModule = 'HyperVBalancer.psm1'
    # The major number is MODULE_VERSION of balancer/gateway/wire.py; a test compares them.
    ModuleVersion = '1.0.0'
    GUID = '42ad9c0b-0df8-48a9-a8e6-ba1c3dc27eb4'
    Author = 'The Hyper-V Balancer authors'
    Copyright = 'Apache-2.0'
    Description = 'What Hyper-V Balancer calls on a Hyper-V host: read it, start and stop live migrations, move groups and volumes, pause nodes, set the transport.'
    PowerShellVersion = '5.1'
    CompatiblePSEditions = @('Desktop')
    FunctionsToExport = @(
        'Get-LbVersion'
        'Get-LbHost'
        'Get-LbCluster'
        'Get-LbMigration'
        'Start-LbMigration'
        'Stop-LbMigration'
        'Set-LbTransport'
        'Get-LbControl'
        'Set-LbControl'
        'Set-LbNode'
        'Move-LbGroup'
        'Move-LbVolume'
        'Set-LbAutoBalancer'
    )
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
}
